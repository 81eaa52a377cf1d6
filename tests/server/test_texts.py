"""Several strings per row, of an answer or of a request: through client, wire, cache, batches and worker."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.server.gate import install
from tests.server.running import Running, environment

from mercato_client import Client, InvalidInput

MODEL = "shop.tags"
HISTORY = "shop.history"
SOURCE = '''
import numpy as np

from mercato_plugin import Axis, BatchPolicy, Example, GraphSpec, InvalidInput, Model, ModelSpec, Tensor, Text, hookimpl

X = Tensor("float32", ("batch",), doc="how many tags")
ITEMS = Text(8, axes=("batch", Axis("items", max=6)), ragged=True)


def identity(name):
    import tempfile
    from pathlib import Path

    from onnx import TensorProto, helper

    rows = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch"]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", rows[:1], rows[1:])
    path = Path(tempfile.mkdtemp()) / name
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(made.SerializeToString())
    return path


class History(Model):
    """Tells what it was sent: the strings of each row, and what is behind them."""

    spec = ModelSpec(
        name="shop.history", doc="Tells its rows.", batch=BatchPolicy(max_rows=2),
        inputs={
            "items": ITEMS,
            "exclude": Text(8, "truncate", ("batch", Axis("items", max=3)), ragged=True, optional=True),
        },
        outputs={"told": Text(), "count": X, "behind": Text()},
        graph=GraphSpec(inputs={"x": X}, outputs={"y": X}),
    )

    def build(self, ctx):
        return identity("history.onnx")

    def examples(self, ctx):
        answer = {"told": ["[] -", "['红', ''] -"], "count": [0.0, 2.0], "behind": ["", ""]}
        return [Example({"items": [[], ["红", ""]]}, outputs=answer), Example({"items": [["a"]], "exclude": [[]]})]

    def preprocess(self, batch):
        return {"x": batch.lengths["items"].astype(np.float32)}

    def postprocess(self, outputs, batch):
        excluded = [
            row[:length].tolist() if there else "-"
            for row, length, there in zip(
                batch.inputs["exclude"], batch.lengths["exclude"], batch.present["exclude"], strict=True
            )
        ]
        rows = list(zip(batch.inputs["items"], batch.lengths["items"], strict=True))
        told = [f"{row[:length].tolist()} {no}" for (row, length), no in zip(rows, excluded, strict=True)]
        return {"told": told, "count": outputs["y"], "behind": ["".join(row[length:]) for row, length in rows]}


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
        return identity("tags.onnx")

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
    return [Tags(), History()]
'''


@pytest.fixture(scope="module", params=["process", "inline"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("texts")
    path = install(folder / "site", "mercato-tags", SOURCE)
    models = json.dumps({model: {"cache_bytes": 1 << 20} for model in (MODEL, HISTORY)})
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


def test_a_row_of_a_request_has_several_strings(client: Client) -> None:
    rows = [["p1", "p7"], [], ["红", "", "p3"]]
    answer = client.predict(HISTORY, {"items": rows})
    assert answer["told"].tolist() == [f"{row} -" for row in rows]
    assert answer["count"].tolist() == [2, 0, 3]
    assert answer["behind"].tolist() == [""] * 3


def test_requests_of_different_widths_share_batches(client: Client) -> None:
    sent = [[[f"{number}.{place}" for place in range(number % 6)]] for number in range(24)]
    with client.stream() as stream:
        pending = [stream.predict(HISTORY, {"items": rows}, receipt=True) for rows in sent]
        answers = [future.result(timeout=30) for future in pending]
    assert [answer["told"].tolist() for answer in answers] == [[f"{rows[0]} -"] for rows in sent]
    assert max(answer.receipt.batch_rows for answer in answers if answer.receipt) == 2


def test_strings_that_are_optional_may_be_absent_or_none_or_cut(client: Client) -> None:
    answer = client.predict(HISTORY, {"items": [["a"], ["a"]], "exclude": [["b"], []]})
    assert answer["told"].tolist() == ["['a'] ['b']", "['a'] []"]
    assert client.predict(HISTORY, {"items": [["a"]]})["told"].tolist() == ["['a'] -"]
    cut = client.predict(HISTORY, {"items": [[], []], "exclude": [[], ["b", "红红红", "c" * 9]]}, receipt=True)
    assert cut["told"].tolist() == ["[] []", "[] ['b', '红红', 'cccccccc']"]
    assert cut.receipt is not None and dict(cut.receipt.truncations) == {"exclude": 1}


def test_rows_of_strings_are_known_by_what_they_hold(client: Client) -> None:
    rows = [["ab", "c"], ["a", "bc"], ["a", ""], ["a"], ["", "a"], [], [""]]
    for outcome in ("MISS", "HIT"):
        answer = client.predict(HISTORY, {"items": rows, "exclude": [["known"]] * len(rows)}, receipt=True)
        assert answer["told"].tolist() == [f"{row} ['known']" for row in rows]
        assert answer.receipt is not None and answer.receipt.cache == outcome


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([["a"] * 7], r"got shape \[1, 7\], expected \[batch \(1 to 32\), items \(0 to 6\)\]"),
        ([["a"], [], ["b", "123456789"]], "row 2, string 1, has 9 bytes of UTF-8, expected at most 8"),
        (["a", "b"], "expected a list of rows, each a list"),
    ],
)
def test_rows_of_strings_that_do_not_fit_are_refused(client: Client, rows: Any, why: str) -> None:
    with pytest.raises(InvalidInput, match=f"inputs.items: {why}"):
        client.predict(HISTORY, {"items": rows})
    assert client.predict(HISTORY, {"items": [["a"]]})["count"].tolist() == [1]


def test_the_signature_says_that_rows_of_strings_differ(client: Client) -> None:
    items, exclude = client.signature(HISTORY).inputs
    assert (items.kind, items.dtype, items.ragged, items.max_bytes, items.optional) == (
        "text", "string", True, 8, False,
    )  # fmt: skip
    assert [(axis.name, axis.size, axis.max) for axis in items.axes] == [("batch", 0, 32), ("items", 0, 6)]
    assert (exclude.optional, exclude.overflow) == (True, "truncate")
