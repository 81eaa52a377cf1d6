"""Torch modules: what is exported, and what the certificate refuses."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tests.server.export.conftest import Export, Made

from mercato_plugin import Axis, Batch, BatchPolicy, BuildContext, Example, GraphSpec, ModelSpec, Ragged, Tensor
from mercato_server.errors import ExportFailed, ParityFailed
from mercato_server.export import torch_graph
from mercato_server.export.request import Progress
from mercato_server.runtime.session import open_session

X = Tensor("float32", ("batch", 4))
Y = Tensor("float32", ("batch", 2))
TINY = ModelSpec(name="shop.tiny", inputs={"x": X}, outputs={"y": Y}, batch=BatchPolicy(max_rows=16))
LENGTH = Axis("length", max=32)


class Module(torch.nn.Module):
    """A linear layer whose answer goes through `after(answer, input)`."""

    def __init__(self, after: Callable[[torch.Tensor, torch.Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 2)
        self.after = after

    def forward(self, x: torch.Tensor) -> Any:
        return self.after(self.linear(x), x)


def built(after: Callable[[torch.Tensor, torch.Tensor], Any]) -> Callable[[BuildContext], Any]:
    return lambda ctx: Module(after)


def test_a_module_is_exported_with_its_certificate(export: Export, progress: list[Progress]) -> None:
    artifact = export(TINY, built(lambda y, x: y), [Example({"x": [[1.0, 2.0, 3.0, 4.0]]})])
    certificate = artifact.certificate

    assert (certificate.kind, certificate.passed, certificate.opset) == ("source", True, 20)
    assert certificate.checks == ("batch", "parity", "repeat")
    rows = {case.shapes["x"][0] for case in certificate.cases if case.check == "parity"}
    assert {1, 2, 3, 7, 16} < rows and len(rows) == 6
    (error,) = certificate.errors
    assert error.output == "y" and error.rel_l2 <= error.tolerance == 1e-5
    assert {"torch", "onnx", "onnx-ir", "onnxscript"} <= artifact.tools.keys()
    assert {step.step for step in progress} == {"build", "export", "certify", "store"}
    assert progress[-1] == Progress("store", 1, 1)


def test_a_branch_on_the_number_of_rows_fails_at_one_row(export: Export) -> None:
    with pytest.raises(ParityFailed) as caught:
        export(TINY, built(lambda y, x: y + 1 if x.shape[0] == 1 else y))

    text = str(caught.value)
    assert all(part in text for part in ("'shop.tiny'", "'y'", "'parity'", "x=1x4", "error", "tolerance 1e-05"))


def test_not_a_number_never_passes(export: Export) -> None:
    with pytest.raises(ParityFailed, match="not a finite number"):
        export(TINY, built(lambda y, x: torch.sqrt(-torch.abs(y) - 1)))


def test_rows_that_see_their_neighbours_fail(export: Export) -> None:
    def normalised(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.batch_norm(y, None, None, training=True)

    with pytest.raises(ParityFailed, match="fails check 'batch' at x=1x4"):
        export(TINY, built(lambda y, x: (y - y.mean(0, keepdim=True)) / (1 + y.var(0, keepdim=True, correction=0))))
    with pytest.raises((ParityFailed, ExportFailed)):
        export(TINY, built(normalised))


def test_a_module_in_training_mode_is_exported_for_evaluation(export: Export) -> None:
    layers = (torch.nn.Linear(4, 2), torch.nn.BatchNorm1d(2), torch.nn.Dropout())

    assert export(TINY, lambda ctx: torch.nn.Sequential(*layers).train()).certificate.passed


class Words(torch.nn.Module):
    """Mean of word vectors over each row's true length, the weight called as the output is."""

    def __init__(self, honest: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Parameter(torch.randn(50, 8))
        self.honest = honest

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        words = self.embedding[ids]
        if not self.honest:
            return words.mean(1) + 0 * lengths[:, None]
        real = torch.arange(ids.shape[1])[None, :, None] < lengths[:, None, None]
        return (words * real).sum(1) / lengths[:, None]


def words_spec(opset: int | None = None, output: str = "embedding") -> ModelSpec:
    return ModelSpec(
        name="shop.words",
        inputs={"ids": Tensor("int64", ("batch", LENGTH), ragged=True, low=0, high=49)},
        outputs={output: Tensor("float32", ("batch", 8))},
        opset=opset,
        graph=GraphSpec(
            inputs={
                "ids": Tensor("int64", ("batch", LENGTH), ragged=True, low=0, high=49, pad=3),
                "lengths": Tensor("int64", ("batch",), low=1, high=32),
            },
            outputs={output: Tensor("float32", ("batch", 8))},
            lengths="lengths",
        ),
    )


@pytest.mark.parametrize("opset", [None, 23, 24])
def test_rows_of_different_length_are_proven_at_every_length(export: Export, opset: int | None) -> None:
    certificate = export(words_spec(opset), lambda ctx: Words()).certificate

    assert certificate.checks == ("batch", "padding", "parity", "repeat")
    assert certificate.opset == (opset or 20)
    lengths = {case.shapes["ids"][1] for case in certificate.cases if case.check == "parity"}
    assert {1, 2, 32} <= lengths and any(length % 2 for length in lengths - {1})


def test_padding_that_changes_the_answer_fails(export: Export) -> None:
    with pytest.raises(ParityFailed, match="fails check 'padding'"):
        export(words_spec(), lambda ctx: Words(honest=False))


class Mean(torch.nn.Module):
    """Mean of word vectors, padding included."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Parameter(torch.arange(100.0).reshape(50, 2))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.embedding[ids].mean(1)


class RaggedMade(Made):
    """Hands its rows to the runtime with their lengths."""

    def preprocess(self, batch: Batch) -> Any:
        return {"ids": Ragged.from_rows([[1] * int(x) for x in batch.inputs["x"][:, 0]], "int64")}


def mean_spec(ragged: bool) -> ModelSpec:
    ids = Tensor("int64", ("batch", LENGTH), ragged=ragged, low=0, high=49)
    graph = GraphSpec(inputs={"ids": ids}, outputs={"y": Y})
    return ModelSpec(name="shop.mean", inputs={"x": X}, outputs={"y": Y}, graph=graph)


def test_padding_is_checked_without_lengths_too(export: Export) -> None:
    with pytest.raises(ParityFailed, match="fails check 'padding'"):
        export(mean_spec(ragged=True), lambda ctx: Mean())


def test_rows_of_different_length_need_a_ragged_input(export: Export) -> None:
    example = Example({"x": [[1.0, 0, 0, 0], [3.0, 0, 0, 0]]})
    with pytest.raises(ExportFailed, match="example 0 fails: .*'ids' got a Ragged.*write ragged=True"):
        export(mean_spec(ragged=False), lambda ctx: Mean(), [example], kind=RaggedMade)


def test_whole_numbers_need_their_largest_value(export: Export) -> None:
    ids = Tensor("int64", ("batch", LENGTH), low=0)
    spec = ModelSpec(name="shop.mean", inputs={"ids": ids}, outputs={"y": Y})

    with pytest.raises(ExportFailed, match="graph input 'ids' is int64 without high; state low and high"):
        export(spec, lambda ctx: Mean())


def test_an_example_is_held_to_its_own_size(export: Export) -> None:
    def shifted(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return x[:, :2] + 1e-6 if y.dtype == torch.float32 else x[:, :2]

    assert export(TINY, built(shifted)).certificate.passed
    with pytest.raises(ParityFailed, match="fails check 'parity' at x=1x4"):
        export(TINY, built(shifted), [Example({"x": [[1e-3, 1e-3, 0, 0]]})])


class Colliding(torch.nn.Module):
    """Every name of the specification is a name inside the graph as well."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Parameter(torch.randn(4, 2))

    def forward(self, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
        linear = weight @ self.embedding
        return linear, torch.relu(linear), weight, self.embedding.sum() + linear * 0


@pytest.mark.parametrize(
    "names", [("embedding", "matmul", "linear", "relu"), ("source.embedding", "val_0", "add", "mul")]
)
def test_names_that_collide_inside_the_graph_are_kept_apart(export: Export, names: tuple[str, ...]) -> None:
    outputs = {name: X if place == 2 else Y for place, name in enumerate(names)}
    artifact = export(ModelSpec(name="shop.clash", inputs={"weight": X}, outputs=outputs), lambda ctx: Colliding())

    answer = open_session(artifact.graph("model")).run({"weight": np.eye(4, dtype=np.float32)})
    assert tuple(answer) == names
    np.testing.assert_array_equal(answer[names[2]], np.eye(4))


def test_outputs_by_name_come_in_the_declared_order(export: Export) -> None:
    spec = ModelSpec(name="shop.two", inputs={"x": X}, outputs={"first": Y, "second": X})
    artifact = export(spec, built(lambda y, x: {"second": x * 1, "first": y}))

    assert list(open_session(artifact.graph("model")).run({"x": np.ones((1, 4), np.float32)})) == ["first", "second"]


def test_several_graphs_are_certified_each(export: Export) -> None:
    side = GraphSpec(inputs={"x": X}, outputs={"y": Y})
    spec = ModelSpec(name="shop.pair", inputs={"x": X}, outputs={"y": Y}, graph={"left": side, "right": side})
    modules = {name: Module(lambda y, x: y) for name in ("left", "right")}

    assert {error.output for error in export(spec, lambda ctx: modules).certificate.errors} == {"left.y", "right.y"}
    with pytest.raises(ExportFailed, match=r"build gave graphs \['left'\]"):
        export(spec, lambda ctx: {"left": modules["left"]})


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (lambda y, x: x, "declares"),
        (lambda y, x: (y, y), "returns 2 outputs"),
        (lambda y, x: y.to(torch.float16), "is float16"),
        (lambda y, x: y[:3].reshape(3, 2), "axes|cannot export"),
        (lambda y, x: y[x[:, 0] > 0], "has shape"),
        (lambda y, x: y if float(x.sum()) > 0 else -y, "cannot export the module"),
        (lambda y, x: y @ torch.eye(2), "in float64 raises"),
    ],
)
def test_a_module_that_is_not_what_was_declared_is_refused(export: Export, after: Any, told: str) -> None:
    with pytest.raises((ExportFailed, ParityFailed), match=told) as caught:
        export(TINY, built(after))

    assert len(str(caught.value)) < 700 and "Traceback" not in str(caught.value)
    assert str(Path(torch.__file__).parent) not in str(caught.value)


def test_a_build_that_raises_or_returns_nothing_is_named(export: Export) -> None:
    def raising(ctx: BuildContext) -> Any:
        raise SystemExit("no weights")

    with pytest.raises(ExportFailed, match="build raised SystemExit: no weights"):
        export(TINY, raising)
    with pytest.raises(ExportFailed, match="build returned NoneType; expected a torch.nn.Module"):
        export(TINY, lambda ctx: None)


def test_tolerance_can_be_stated_per_output(export: Export) -> None:
    strict = ModelSpec(name="shop.tiny", inputs={"x": X}, outputs={"y": Y}, tolerance={"y": 1e-12})

    with pytest.raises(ParityFailed, match="tolerance 1e-12"):
        export(strict, built(lambda y, x: y))


def test_half_precision_has_its_own_gate(export: Export) -> None:
    x, y = Tensor("float16", ("batch", 4)), Tensor("float16", ("batch", 2))
    spec = ModelSpec(name="shop.half", inputs={"x": x}, outputs={"y": y})
    (error,) = export(spec, lambda ctx: Module(lambda y, x: y).half()).certificate.errors

    assert error.tolerance == 5e-3


SOURCE = """
import torch


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(x).tanh()
"""


def imported(folder: Path) -> ModuleType:
    folder.mkdir()
    (folder / "encoder.py").write_text(SOURCE)
    found = importlib.util.spec_from_file_location("encoder", folder / "encoder.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_one_source_in_two_folders_gives_equal_bytes_without_paths(tmp_path: Path) -> None:
    written = []
    for name in ("here", "somewhere-else"):
        module = imported(tmp_path / name).Encoder()
        path = tmp_path / "out" / name / "model.onnx"
        torch_graph.export(module, TINY.graphs["model"], path, model="shop.tiny", opset=None)
        written.append(path.read_bytes())

    assert written[0] == written[1]
    assert b"encoder.py" not in written[0] and str(tmp_path).encode() not in written[0]


def test_large_weights_lie_beside_the_graph(tmp_path: Path) -> None:
    row, answer = Tensor("float32", ("batch", 1024)), Tensor("float32", ("batch", 1200))
    wide = GraphSpec(inputs={"x": row}, outputs={"y": answer})
    torch_graph.export(torch.nn.Linear(1024, 1200), wide, tmp_path / "model.onnx", model="shop.wide", opset=None)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
