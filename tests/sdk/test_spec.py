"""Specifications that contradict themselves are refused where they are written."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mercato_plugin import (
    Axis,
    BatchPolicy,
    Choice,
    Float,
    GraphSpec,
    Image,
    Int,
    InvalidInput,
    Label,
    ModelSpec,
    Ragged,
    SpecError,
    Tensor,
    Text,
    TopK,
)

X = Tensor("float32", ("batch", 2))
LENGTH = Axis("length", max=4)
IDS = Tensor("int64", ("batch", LENGTH), ragged=True)
HISTORY = Tensor("int64", (LENGTH,), shared=True, ragged=True, pad=-1)
MARKS = Tensor("int64", ("batch", Axis("marks", max=4)), ragged=True)


def spec(**changed: Any) -> ModelSpec:
    return ModelSpec(**{"name": "shop.tiny", "inputs": {"x": X}, "outputs": {"y": X}, **changed})


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: Axis("two words", 3), "axis name 'two words' is not an identifier"),
    (lambda: Axis("k", 0), "axis 'k': max must be at least 1, got 0"),
    (lambda: Tensor("float31"), "unknown dtype 'float31'; expected one of bool"),
    (lambda: Tensor("float32", ("batch", "length")), r"axis 'length' needs a maximum: write Axis\('length', max=...\)"),
    (lambda: Tensor("float32", ("batch", 0)), "a fixed axis must be at least 1, got 0"),
    (lambda: Tensor("float32", (3, "batch")), "'batch' can only be the first axis"),
    (lambda: Tensor("float32", ("batch", 3), ragged=True), "a ragged tensor needs a named axis 1"),
    (lambda: Tensor("int64", (3,), ragged=True, shared=True), r"a shared ragged tensor needs a named axis 0: \(Axis"),
    (lambda: Tensor("int64", ("batch", LENGTH), ragged=True, shared=True), "a shared ragged tensor needs a named axis"),
    (lambda: Tensor(low=2, high=1), "low 2 is greater than high 1"),
    (lambda: Tensor(default=1), "a default needs optional=True"),
    (lambda: Text(0), "max_bytes must be at least 1, got 0"),
    (lambda: Text(overflow="wrap"), "overflow must be 'refuse' or 'truncate', got 'wrap'"),  # type: ignore[arg-type]
    (lambda: Text(axes=(5,)), "text must have 'batch' as its first axis, got 5"),
    (lambda: Text(axes=("batch", "tags")), r"axis 'tags' needs a maximum: write Axis\('tags', max=...\)"),
    (lambda: spec(inputs={"t": Text(axes=("batch", 5))}), "input 't' has several strings per row; only outputs may"),
    (lambda: Image(("gif",)), "formats must be some of jpeg, png, webp"),
    (lambda: Image(()), "formats must be some of jpeg, png, webp"),
    (lambda: Label(()), "label names must be given and unique"),
    (lambda: Label(("red", "red")), "label names must be given and unique"),
    (lambda: Label(("red",), optional=True, default="blue"), "default 'blue' is not one of the label's names"),
    (lambda: Int(11, high=10), "default 11 lies outside None to 10"),
    (lambda: Float(-0.5, low=0), "default -0.5 lies outside 0 to None"),
    (lambda: Choice("c", ("a", "b")), "default 'c' is not one of"),
    (lambda: BatchPolicy(max_rows=0), "batch.max_rows must be at least 1, got 0"),
    (lambda: BatchPolicy(max_cost=0), "batch.max_cost must be at least 1, got 0"),
    (lambda: BatchPolicy(run_rows=-1), "batch.run_rows must be at least 1, got -1"),
    (lambda: BatchPolicy(run_cells=0), "batch.run_cells must be at least 1, got 0"),
    (lambda: BatchPolicy(request_rows=0), "batch.request_rows must be at least 1, got 0"),
    (lambda: BatchPolicy(request_rows=63), "batch.request_rows must be at least max_rows = 64, got 63"),
    (lambda: BatchPolicy(max_padding=1.0), r"batch.max_padding must be in \[0, 1\), got 1.0"),
    (lambda: GraphSpec(inputs={}, outputs={"y": X}), "a graph needs at least one input and one output"),
    (lambda: GraphSpec(inputs={"x": X}, outputs={"y": X}, lengths="n"), "lengths names 'n', which is not an input"),
    (lambda: GraphSpec(inputs={"x": X, "n": X}, outputs={"y": X}, lengths="n"), "no input of the graph is ragged"),
    (lambda: GraphSpec(inputs={"a": IDS, "b": MARKS}, outputs={"y": X}), "ragged inputs 'a', 'b' have different axes"),
    (lambda: GraphSpec(inputs={"a": HISTORY}, outputs={"y": X}), "ragged input 'a' must have 'batch' as its first"),
    (lambda: spec(tolerance={"y": float("nan")}), "tolerance of 'y' must be a finite number of at least 0, got nan"),
    (lambda: spec(tolerance={"y": float("inf")}), "tolerance of 'y' must be a finite number of at least 0, got inf"),
    (lambda: spec(tolerance={"y": -1e-5}), "tolerance of 'y' must be a finite number of at least 0, got -1e-05"),
    (lambda: spec(tolerance={"y": "1"}), "tolerance of 'y' must be a finite number of at least 0, got '1'"),
    (lambda: spec(tolerance={"z": 1e-5}), r"tolerance names 'z'; the outputs are \['y'\]"),
    (lambda: spec(graph=GraphSpec(inputs={"x": X}, outputs={"h": X}), tolerance={"z": 0}), r"outputs are \['h', 'y'\]"),
    *((lambda name=name: spec(name=name), f"model name '{name}' must be two lower-case words") for name in (
        "tiny", "Shop.tiny", "shop.tiny.x", "shop.1tiny", "shop..tiny", "shop.tiny ", "shop/tiny", "shöp.tiny", ".tiny",
        "shop." + "x" * 60, "",
    )),
    (lambda: spec(version=0), "version must be between 1 and 2147483647, got 0"),
    (lambda: spec(version=2**31), "version must be between 1 and 2147483647"),
    (lambda: spec(inputs={}), "at least one input and one output are needed"),
    (lambda: spec(outputs={}), "at least one input and one output are needed"),
    (lambda: spec(inputs={"X": X}), "field name 'X' must be lower-case words joined by dots"),
    (lambda: spec(outputs={"y" * 65: X}), "at most 64 characters"),
    (lambda: spec(parameters={"a b": Int()}), "field name 'a b' must be lower-case words"),
    (lambda: spec(inputs={"a.b": X, "a_b": X}), "names 'a.b' and 'a_b' are equal after '.' -> '_'"),
    (lambda: spec(inputs={"x": Tensor("float32", (3,))}), "field 'x' must have 'batch' as its first axis"),
    (lambda: spec(inputs={"x": Tensor("float32", ("batch",), shared=True)}), "no batch axis, because it is shared"),
    (lambda: spec(outputs={"y": Tensor("float32", (3,), shared=True)}), "output 'y' cannot be shared or optional"),
    (lambda: spec(outputs={"y": Text(optional=True)}), "output 'y' cannot be shared or optional"),
    (lambda: spec(inputs={"x": "float32"}), "'x' is str, expected one of Tensor, Text, Image, Label"),
    (lambda: spec(outputs={"y": Int()}), "'y' is Int, expected one of Tensor, Text, Image, Label"),
    (lambda: spec(parameters={"k": 10}), "'k' is int, expected one of Int, Float, Bool, Choice, Str"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "reason"), BAD, ids=[reason[:40] for _, reason in BAD])
def test_a_contradiction_is_refused_where_it_is_written(make: Callable[[], Any], reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        make()


def ranked(by: str = "score", k: str = "k", index: str = "place", **changed: Any) -> ModelSpec:
    """A model whose candidates are ranked, with outputs and parameters that cannot rank or count them."""
    outputs = {
        "score": Tensor("float32"), "wide": X, "tall": Tensor("float32", ("batch", LENGTH)), "sure": Tensor("bool"),
        "name": Text(), "colour": Label(("red", "green")),
    }  # fmt: skip
    parameters = {
        "k": Int(3, low=1), "free": Int(3), "from_zero": Int(3, low=0), "share": Float(3, low=1),
        "of_a_row": Int(3, low=1, per_row=True),
    }  # fmt: skip
    return spec(**{"outputs": outputs, "parameters": parameters, "top_k": TopK(by, k, index), **changed})


@pytest.mark.parametrize("by", ["nothing", "x", "k", "wide", "tall", "sure", "name", "colour"])
def test_rows_are_ranked_by_an_output_of_one_number(by: str) -> None:
    with pytest.raises(SpecError, match=f"shop.tiny: top_k.by names '{by}', expected an output of one number per row"):
        ranked(by=by)


@pytest.mark.parametrize("k", ["nothing", "score", "free", "from_zero", "share", "of_a_row"])
def test_ranked_rows_are_counted_by_a_parameter_of_the_request(k: str) -> None:
    with pytest.raises(
        SpecError, match=f"shop.tiny: top_k.k names '{k}', expected an Int parameter whose low is at le"
    ):
        ranked(k=k)


@pytest.mark.parametrize(("index", "there"), [("x", "x"), ("score", "score"), ("k", "k"), ("from.zero", "from_zero")])
def test_the_places_of_ranked_rows_have_a_name_of_their_own(index: str, there: str) -> None:
    with pytest.raises(
        SpecError, match=f"top_k.index is '{index}', expected a name that no .* has; there is '{there}'"
    ):
        ranked(index=index)


def test_a_ranking_is_written_as_such() -> None:
    with pytest.raises(SpecError, match="shop.tiny: field name 'Place' must be lower-case words"):
        ranked(index="Place")
    with pytest.raises(SpecError, match="shop.tiny: top_k is str, expected TopK"):
        ranked(top_k="score")


def test_without_a_graph_the_graph_has_the_callers_fields() -> None:
    made = spec(inputs={"x": X, "user": Tensor("int64", (3,), shared=True)}).graphs

    assert list(made) == ["model"]
    assert made["model"].inputs == {"x": X, "user": Tensor("int64", ("batch", 3))}


def test_a_shared_ragged_input_is_an_ordinary_one_of_the_graph() -> None:
    made = spec(inputs={"x": X, "history": HISTORY}).graphs

    assert made["model"].inputs["history"] == Tensor("int64", ("batch", LENGTH), ragged=True, pad=-1)


@pytest.mark.parametrize("by", [Tensor("float16"), Tensor("bfloat16", ("batch", 1)), Tensor("uint8", ("batch", 1))])
def test_one_number_per_row_ranks(by: Tensor) -> None:
    assert ranked(outputs={"score": by}).top_k == TopK("score", "k", "place")


@pytest.mark.parametrize(
    ("policy", "rows"),
    [(BatchPolicy(), 1024), (BatchPolicy(max_rows=5), 80), (BatchPolicy(max_rows=5, request_rows=5), 5)],
)
def test_a_request_may_have_more_rows_than_a_batch(policy: BatchPolicy, rows: int) -> None:
    assert policy.rows_per_request == rows


def test_text_needs_a_graph_of_its_own() -> None:
    with pytest.raises(SpecError, match="'t' is text, which a graph cannot take; state the graph's own tensors"):
        _ = spec(inputs={"t": Text()}).graphs
    graph = GraphSpec(inputs={"ids": X}, outputs={"y": X})
    assert spec(inputs={"t": Text()}, graph=graph).graphs == {"model": graph}
    assert spec(inputs={"t": Text()}, graph={"a": graph, "b": graph}).graphs == {"a": graph, "b": graph}


def test_specifications_do_not_change_with_what_they_were_made_from() -> None:
    inputs, names = {"x": X}, ["red", "green"]
    made, label = spec(inputs=inputs), Label(names)
    inputs["z"] = X
    names.append("blue")

    assert list(made.inputs) == ["x"]
    assert label.names == ("red", "green")


def test_rows_have_no_batch_axis() -> None:
    assert X.row_axes == (2,)
    assert Tensor("float32", (3, 2), shared=True).row_axes == (3, 2)
    assert HISTORY.row_axes == (LENGTH,)
    assert Text().row_axes == Text(axes=("batch",)).row_axes == ()
    assert Text(axes=("batch", 5)).row_axes == (5,)
    assert Label(("a",), ("batch", 5)).row_axes == (5,)


def test_ragged_rows_stand_back_to_back() -> None:
    ragged = Ragged.from_rows([[1], [], [2, 3]], "int64")

    assert ragged.values.tolist() == [1, 2, 3]
    assert ragged.lengths.tolist() == [1, 0, 2]
    assert ragged.values.dtype == ragged.lengths.dtype == np.dtype(np.int64)


def test_invalid_input_names_field_and_rows() -> None:
    error = InvalidInput("x", "too odd", rows=[3, 1])

    assert (error.field, error.message, error.rows, str(error)) == ("x", "too odd", (3, 1), "x: too odd")
    assert InvalidInput("x", "too odd").rows is None
