"""Several strings per row of an answer: through worker, batches, cache and wire to the client, some of them empty."""

import json
from collections.abc import Iterator

import pytest
from tests.server.gate import install
from tests.server.running import Running, environment

from mercato_client import Client

MODEL = "shop.tags"
SOURCE = '''
import numpy as np

from mercato_plugin import Axis, BatchPolicy, Example, GraphSpec, InvalidInput, Model, ModelSpec, Tensor, Text, hookimpl

X = Tensor("float32", ("batch",), doc="how many tags")


class Tags(Model):
    """As many tags as the input says, and always the same three."""

    spec = ModelSpec(
        name="shop.tags", inputs={"x": X}, doc="Makes tags up.", batch=BatchPolicy(max_rows=2),
        outputs={
            "tags": Text(axes=("batch", Axis("tags", max=4)), doc="as many as the row of the batch with the most has"),
            "three": Text(axes=("batch", 3), doc="three words, the second is empty"),
        },
        graph=GraphSpec(inputs={"x": X}, outputs={"y": X}),
    )

    def build(self, ctx):
        import tempfile
        from pathlib import Path

        from onnx import TensorProto, helper

        rows = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch"]) for n in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", rows[:1], rows[1:])
        path = Path(tempfile.mkdtemp()) / "tags.onnx"
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path.write_bytes(made.SerializeToString())
        return path

    def examples(self, ctx):
        return [Example({"x": [2.0]}, outputs={"tags": [["红", "红"]], "three": [["a", "", "c"]]})]

    def postprocess(self, outputs, batch):
        odd = np.flatnonzero(outputs["y"] < 0)
        if odd.size:
            raise InvalidInput("x", "is negative", rows=odd.tolist())
        counts = outputs["y"].astype(int).tolist()
        tags = [["红"] * count + [""] * (max(counts) - count) for count in counts]
        return {"tags": tags, "three": [["a", "", "c"]] * batch.rows}


@hookimpl
def mercato_models():
    return [Tags()]
'''


@pytest.fixture(scope="module", params=["process", "inline"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("texts")
    path = install(folder / "site", "mercato-tags", SOURCE)
    models = json.dumps({MODEL: {"cache_bytes": 1 << 20}})
    settings = {"MERCATO_ISOLATION": request.param, "MERCATO_MODELS": models, "MERCATO_PROVIDER": "cpu"}
    env = environment(folder / "home", ("mercato-tags",), PYTHONPATH=path, **settings)
    running = Running(folder / "store", folder / "work", env)
    try:
        running.ready()
        with Client(running.address) as connected:
            yield connected
    finally:
        running.kill()


def test_a_row_of_an_answer_has_several_strings(client: Client) -> None:
    answer = client.predict(MODEL, {"x": [2.0, 1.0]})
    assert answer["tags"].tolist() == [["红", "红"], ["红", ""]]
    assert answer["three"].tolist() == [["a", "", "c"]] * 2


def test_batches_of_one_request_are_widened_with_empty_strings(client: Client) -> None:
    answer = client.predict(MODEL, {"x": [1.0, 1.0, 3.0, 2.0, 4.0]})
    assert answer["tags"].shape == (5, 4)
    assert answer["tags"].tolist()[0] == ["红", "", "", ""]
    assert answer["three"].tolist() == [["a", "", "c"]] * 5


def test_known_rows_answer_with_the_same_strings(client: Client) -> None:
    first = client.predict(MODEL, {"x": [3.5]}, receipt=True)
    again = client.predict(MODEL, {"x": [3.5]}, receipt=True)
    assert first["tags"].tolist() == again["tags"].tolist() == [["红"] * 3]
    assert first.receipt is not None and again.receipt is not None
    assert (first.receipt.cache, again.receipt.cache) == ("MISS", "HIT")


def test_the_signature_says_so(client: Client) -> None:
    version = client.model(MODEL).versions[0]
    assert version.signature is not None
    tags, three = version.signature.outputs
    assert (tags.kind, tags.dtype, [(axis.name, axis.size, axis.max) for axis in tags.axes]) == (
        "text", "string", [("batch", 0, 32), ("tags", 0, 4)],
    )  # fmt: skip
    assert [(axis.name, axis.size) for axis in three.axes] == [("batch", 0), ("", 3)]
