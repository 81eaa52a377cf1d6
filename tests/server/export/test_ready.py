"""ONNX files that a plugin brings ready-made, and the files it saves."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.server.export.conftest import Export, Made

from mercato_plugin import Batch, BuildContext, Example, InvalidInput, Label, LoadContext, ModelSpec, Tensor
from mercato_server.errors import ExportFailed, ParityFailed

ROW = Tensor("float32", ("batch", 3))
SPEC = ModelSpec(name="shop.ready", inputs={"x": ROW}, outputs={"y": ROW})
WEIGHT = np.array([[1.0, 2.0, 3.0]], np.float32)


def write(
    folder: Path, *, rows: Any = "n", output: str = "y", location: str | None = None, op: str = "Mul", weight: float = 1
) -> Path:
    """y = op(x, weights)."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = numpy_helper.from_array(WEIGHT * np.float32(weight), "weights")
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "weights"], [output])],
        "ready",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 3])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [rows, 3])],
        [weights],
    )
    if location is not None:
        onnx.external_data_helper.set_external_data(weights, location, 0, WEIGHT.nbytes)
        graph.initializer[0].CopyFrom(weights)
        graph.initializer[0].ClearField("raw_data")
        (folder / Path(location).name).write_bytes(WEIGHT.tobytes())
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (folder / "ready.onnx").write_bytes(model.SerializeToString())
    return folder / "ready.onnx"


def test_without_a_source_it_is_unproven(export: Export, tmp_path: Path) -> None:
    certificate = export(SPEC, lambda ctx: write(tmp_path / "m"), [Example({"x": [[1, 1, 1]]})]).certificate

    assert certificate.kind == "self"
    assert certificate.checks == ("batch", "repeat", "shapes")


def test_with_recorded_answers_it_is_recorded(export: Export, tmp_path: Path) -> None:
    right = Example({"x": [[1, 1, 1]]}, outputs={"y": WEIGHT})
    wrong = Example({"x": [[1, 1, 1]]}, outputs={"y": [[1, 2, 4]]})

    assert export(SPEC, lambda ctx: write(tmp_path / "m"), [right]).certificate.kind == "recorded"
    with pytest.raises(ParityFailed, match="fails check 'examples'"):
        export(SPEC, lambda ctx: write(tmp_path / "m"), [wrong])


def test_a_path_within_the_model_folder_and_its_data_file_are_copied(export: Export, tmp_path: Path) -> None:
    write(tmp_path / "m", location="weights.bin")
    artifact = export(SPEC, lambda ctx: "ready.onnx", files=tmp_path / "m")

    assert sorted(path.name for path in (artifact.folder / "graphs").iterdir()) == ["model.onnx", "weights.bin"]


@pytest.mark.parametrize("location", ["../weights.bin", "sub/weights.bin", "/etc/hostname", ".."])
def test_data_outside_the_folder_is_refused(export: Export, tmp_path: Path, location: str) -> None:
    with pytest.raises(ExportFailed, match="outside its own folder"):
        export(SPEC, lambda ctx: write_raw_location(tmp_path / "m", location))


def write_raw_location(folder: Path, location: str) -> Path:
    path = write(folder, location="weights.bin")
    model = onnx.load(str(path), load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("name", ["ready.onnx", "weights.bin"])
def test_a_link_is_refused(export: Export, tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "m", location="weights.bin")
    (tmp_path / "m" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "m" / name).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ExportFailed, match=f"'{name}' is missing or is not a regular file"):
        export(SPEC, lambda ctx: path)


def test_a_file_that_is_not_onnx_is_refused(export: Export, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a graph")
    with pytest.raises(ExportFailed, match="'text.onnx' is not ONNX|not valid ONNX"):
        export(SPEC, lambda ctx: tmp_path / "text.onnx")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"output": "z"}, r"graph outputs are \['z'\], the specification declares \['y'\]"),
        ({"rows": 2}, r"graph input 'x' has axes \(2, 3\), the specification declares \(batch, 3\)"),
    ],
)
def test_a_graph_that_is_not_what_was_declared_is_refused(
    export: Export, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ExportFailed, match=told):
        export(SPEC, lambda ctx: write(tmp_path / "m", **changes))


def test_a_graph_that_answers_nan_is_refused(export: Export, tmp_path: Path) -> None:
    with pytest.raises(ParityFailed, match="fails check 'shapes'.*not a finite number"):
        export(SPEC, lambda ctx: write(tmp_path / "m", op="Pow", weight=0.3))


def test_a_graph_that_answers_infinity_is_refused(export: Export, tmp_path: Path) -> None:
    with pytest.raises(ParityFailed, match="fails check 'shapes'.*not a finite number"):
        export(SPEC, lambda ctx: write(tmp_path / "m", op="Div", weight=0))


@pytest.mark.parametrize(
    ("recorded", "kind"),
    [
        ([{}], "self"),
        ([{"y": WEIGHT}, {}], "self"),
        ([{"y": WEIGHT}, {"z": WEIGHT}], "recorded"),
        ([{"y": WEIGHT, "z": WEIGHT}], "recorded"),
    ],
)
def test_only_a_model_whose_every_output_was_compared_is_recorded(
    export: Export, tmp_path: Path, recorded: list[dict[str, Any]], kind: str
) -> None:
    spec = ModelSpec(name="shop.ready", inputs={"x": ROW}, outputs={"y": ROW, "z": ROW}, graph=SPEC.graphs["model"])
    examples = [Example({"x": [[1, 1, 1]]}, outputs=outputs) for outputs in recorded]

    assert export(spec, lambda ctx: write(tmp_path / "m"), examples, kind=Twice).certificate.kind == kind


class Twice(Made):
    """Answers the graph's one output under two names."""

    def postprocess(self, outputs: Any, batch: Batch) -> Any:
        return {"y": outputs["y"], "z": outputs["y"]}


COUNT = Tensor("int64", ("batch", 3))
COLORS = Label(("red", "green", "blue"), ("batch", 3))


class Counting(Made):
    """Answers the graph's output as whole numbers."""

    def postprocess(self, outputs: Any, batch: Batch) -> Any:
        return {"n": outputs["y"].astype(np.int64)}


def answered(export: Export, tmp_path: Path, item: Tensor | Label, value: Any) -> str:
    spec = ModelSpec(name="shop.ready", inputs={"x": ROW}, outputs={"n": item}, graph=SPEC.graphs["model"])
    given = [Example({"x": [[0, 0.5, 0.7]]}, outputs={"n": value})]
    return export(spec, lambda ctx: write(tmp_path / "m"), given, kind=Counting).certificate.kind


def test_recorded_values_are_compared_as_they_are(export: Export, tmp_path: Path) -> None:
    assert answered(export, tmp_path, COUNT, [[0, 1, 2]]) == "recorded"
    assert answered(export, tmp_path, COLORS, [["red", "green", "blue"]]) == "recorded"
    with pytest.raises(ParityFailed, match="output 'n' fails check 'examples'"):
        answered(export, tmp_path, COUNT, [[0, 1.9, 2]])


@pytest.mark.parametrize(
    ("item", "value"), [(COUNT, [[0, 1, 2], [1]]), (COLORS, [["red", "green", "grey"]]), (COLORS, [[0, 1.9, 2]])]
)
def test_recorded_values_that_cannot_be_compared_are_named(
    export: Export, tmp_path: Path, item: Tensor | Label, value: Any
) -> None:
    with pytest.raises(
        ExportFailed, match="model 'shop.ready': the recorded output 'n' of an example cannot be compared"
    ):
        answered(export, tmp_path, item, value)


def saving(tmp_path: Path, name: str) -> Any:
    def build(ctx: BuildContext) -> Path:
        ctx.save(name, b"content")
        return write(tmp_path / "m")

    return build


def test_saved_files_reach_load(export: Export, tmp_path: Path) -> None:
    class Reading(Made):
        def load(self, ctx: LoadContext) -> None:
            assert ctx.files is not None
            self.words = (ctx.files / "sub" / "words.txt").read_bytes()

    artifact = export(SPEC, saving(tmp_path, "sub/words.txt"), kind=Reading)

    assert (artifact.files / "sub" / "words.txt").read_bytes() == b"content"


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "", "a/../../b"])  # noqa: S108
def test_a_file_cannot_leave_the_artifact(export: Export, tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportFailed, match="must stay inside the files folder"):
        export(SPEC, saving(tmp_path, name))


def test_examples_that_the_model_refuses_or_misanswers_are_named(export: Export, tmp_path: Path) -> None:
    class Refusing(Made):
        def preprocess(self, batch: Batch) -> Any:
            raise InvalidInput("x", "is never right")

    class Silent(Made):
        def postprocess(self, outputs: Any, batch: Batch) -> Any:
            return None

    one = [Example({"x": [[1, 1, 1]]})]
    with pytest.raises(ExportFailed, match="example 0 is not a valid request: x: is never right"):
        export(SPEC, lambda ctx: write(tmp_path / "m"), one, kind=Refusing)
    with pytest.raises(ExportFailed, match="example 0: the model answers NoneType"):
        export(SPEC, lambda ctx: write(tmp_path / "m"), one, kind=Silent)
    with pytest.raises(ExportFailed, match="example 0 is not a valid request"):
        export(SPEC, lambda ctx: write(tmp_path / "m"), [Example({"z": [[1]]})])
