"""The frozen form of a specification: back as it was, and a fingerprint of exactly what a caller sees."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from tests.sdk.specs import specifications

from mercato_plugin import (
    Axis,
    BatchPolicy,
    Bool,
    Choice,
    Float,
    GraphSpec,
    Int,
    Label,
    ModelSpec,
    SpecError,
    Tensor,
    Text,
    TopK,
)
from mercato_plugin.frozen import canonical, freeze, schema_fingerprint, thaw

X = Tensor("float32", ("batch", Axis("length", max=8)), doc="sizes", unit="cm", low=0, high=9)
Y = Label(("red", "green"), doc="color")
SPEC = ModelSpec(
    name="shop.color",
    inputs={"x": X, "title": Text(optional=True)},
    outputs={"y": Y},
    parameters={"k": Int(3, low=1, high=9), "mode": Choice("a", ("a", "b"))},
    graph=GraphSpec(inputs={"x": X}, outputs={"y": Tensor("int64")}),
)


TAGGED = replace(SPEC, outputs={"y": Text(axes=("batch", 2))})
RANKED = replace(SPEC, outputs={"y": Y, "score": Tensor("float32")}, top_k=TopK("score", "k", "place"))


@settings(derandomize=True, deadline=None, max_examples=80)
@given(specifications)
def test_what_was_frozen_comes_back(spec: ModelSpec) -> None:
    data = json.loads(canonical(freeze(spec)))

    assert thaw(data) == spec
    assert freeze(thaw(data)) == freeze(spec)
    assert schema_fingerprint(thaw(data)) == schema_fingerprint(spec)


@pytest.mark.parametrize(
    "item",
    [
        Tensor("float32", finite=False),
        Tensor("bool", optional=True, default=False),
        Tensor("float32", ("batch", 2), optional=True, default=(0.5, 1)),
        Tensor("int64", (3,), shared=True),
        Tensor("int64", (), shared=True),
        Tensor("int64", (Axis("length", max=8),), shared=True, ragged=True),
        Label(("red", "green"), (), shared=True),
        Text(optional=True, default=""),
        Label(("red", "green"), optional=True, default="green"),
    ],
)
def test_values_that_look_empty_come_back_too(item: Tensor | Text | Label) -> None:
    spec = replace(SPEC, inputs={"x": item})
    thawed = thaw(json.loads(canonical(freeze(spec)))).inputs["x"]

    # An optional field's false or empty default means the same as none.
    assert replace(thawed, default=None) == replace(item, default=None)
    assert (thawed.default or None) == (item.default or None)


@pytest.mark.parametrize("parameter", [Bool(True), Bool(False), Int(0), Float(0.0), Choice("", ("", "a"))])
def test_parameters_keep_their_defaults(parameter: Bool | Int | Float | Choice) -> None:
    spec = replace(SPEC, parameters={"p": parameter})

    assert thaw(json.loads(canonical(freeze(spec)))).parameters == {"p": parameter}


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"$": "text"},
        {"$": "wardrobe"},
        {"name": "shop.x"},
        {**freeze(SPEC), "surprise": 1},
        {**freeze(SPEC), "name": "X"},
    ],
)
def test_anything_else_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        thaw(data)


def test_values_without_a_frozen_form_are_refused() -> None:
    spec = replace(SPEC, inputs={"x": replace(X, optional=True, default=object())})
    with pytest.raises(SpecError, match="a specification cannot hold object values"):
        freeze(spec)


SEEN = {
    "another dtype": replace(SPEC, inputs={"x": replace(X, dtype="float64")}),
    "another axis maximum": replace(SPEC, inputs={"x": replace(X, axes=("batch", Axis("length", max=9)))}),
    "another axis name": replace(SPEC, inputs={"x": replace(X, axes=("batch", Axis("size", max=8)))}),
    "a fixed axis": replace(SPEC, inputs={"x": replace(X, axes=("batch", 8))}),
    "another bound": replace(SPEC, inputs={"x": replace(X, high=8)}),
    "an optional input": replace(SPEC, inputs={"x": replace(X, optional=True)}),
    "an input more": replace(SPEC, inputs={**SPEC.inputs, "z": X}),
    "another input name": replace(SPEC, inputs={"z": X, "title": Text(optional=True)}),
    "another label": replace(SPEC, outputs={"y": replace(Y, names=("red", "blue"))}),
    "another order of labels": replace(SPEC, outputs={"y": replace(Y, names=("green", "red"))}),
    "another text limit": replace(SPEC, inputs={"x": X, "title": Text(99, optional=True)}),
    "another parameter": replace(SPEC, parameters={**SPEC.parameters, "fast": Bool()}),
    "another default": replace(SPEC, parameters={**SPEC.parameters, "k": Int(4, low=1, high=9)}),
    "no parameters": replace(SPEC, parameters={}),
    "a ranking": RANKED,
    "a text more per row": replace(TAGGED, outputs={"y": Text(axes=("batch", 3))}),
}
PINNED = "1f5ccc5ecb4fb5a27229bf2643e9f25211a6926d2bea39427d061e4407044ab6"
UNSEEN = {
    "another name": replace(SPEC, name="shop.other"),
    "another version": replace(SPEC, version=7),
    "documentation": replace(SPEC, doc="told at length"),
    "a field's documentation": replace(SPEC, inputs={**SPEC.inputs, "x": replace(X, doc="other", unit="inch")}),
    "a licence": replace(SPEC, license="MIT"),
    "languages": replace(SPEC, languages=("en", "zh")),
    "another graph": replace(SPEC, graph=replace(SPEC.graphs["model"], outputs={"y": Tensor("int32")})),
    "another batch policy": replace(SPEC, batch=BatchPolicy(max_rows=3, request_rows=9, run_cells=7)),
    "another tolerance": replace(SPEC, tolerance={"y": 0.5}),
    "another opset": replace(SPEC, opset=18),
}


def test_texts_with_axes_come_back_and_one_per_row_is_frozen_as_ever() -> None:
    several = replace(SPEC, outputs={"y": Text(axes=("batch", Axis("tags", max=4), 2))})
    assert thaw(json.loads(canonical(freeze(several)))) == several
    assert schema_fingerprint(TAGGED) != schema_fingerprint(replace(SPEC, outputs={"y": Text()}))
    assert freeze(replace(SPEC, outputs={"y": Text(axes=("batch",))}))["outputs"]["y"] == {
        "$": "text", "max_bytes": 8192, "overflow": "refuse",
    }  # fmt: skip


@pytest.mark.parametrize("change", SEEN)
def test_what_a_caller_sees_changes_the_fingerprint(change: str) -> None:
    assert schema_fingerprint(SEEN[change]) != schema_fingerprint(SPEC)


@pytest.mark.parametrize(
    "top_k", [None, TopK("score", "k", "rank"), TopK("other", "k", "place"), TopK("score", "n", "place")]
)
def test_how_answers_are_ranked_changes_the_fingerprint(top_k: TopK | None) -> None:
    both = replace(
        RANKED,
        outputs={**RANKED.outputs, "other": Tensor("float32")},
        parameters={"k": Int(3, low=1), "n": Int(3, low=1)},
    )

    assert schema_fingerprint(replace(both, top_k=top_k)) != schema_fingerprint(both)


@pytest.mark.parametrize("change", UNSEEN)
def test_what_a_caller_does_not_see_leaves_the_fingerprint(change: str) -> None:
    assert schema_fingerprint(UNSEEN[change]) == schema_fingerprint(SPEC)


def test_the_order_of_names_leaves_the_fingerprint() -> None:
    turned = replace(SPEC, inputs=dict(reversed(list(SPEC.inputs.items()))))

    assert schema_fingerprint(turned) == schema_fingerprint(SPEC)


def test_an_input_called_doc_counts() -> None:
    named = replace(SPEC, inputs={"doc": Text()})

    assert schema_fingerprint(named) != schema_fingerprint(replace(SPEC, inputs={"license": Text()}))


def test_the_fingerprint_is_pinned() -> None:
    """Generated clients carry it: a change breaks every one of them."""
    spec = ModelSpec(name="shop.pin", inputs={"x": Tensor("float32", ("batch", 1))}, outputs={"y": Text()})

    assert schema_fingerprint(spec) == PINNED
