"""Specifications by chance, for tests of their frozen form."""

from dataclasses import replace
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from mercato_plugin import (
    Axis,
    BatchPolicy,
    Bool,
    Choice,
    Field,
    Float,
    GraphSpec,
    Image,
    Int,
    Label,
    ModelSpec,
    Parameter,
    Str,
    Tensor,
    Text,
    TopK,
)
from mercato_plugin.fields import NUMERIC

words = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)
numbers = st.integers(-1000, 1000) | st.floats(allow_nan=False, allow_infinity=False, width=32)
names = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4, unique=True)
axes = st.builds(Axis, words, st.integers(1, 512))
sizes = st.integers(1, 9) | axes


def facts(optional: bool = False) -> st.SearchStrategy[dict[str, Any]]:
    """What every field may state; inputs may be optional."""
    bounds = st.tuples(st.none() | numbers, st.none() | numbers).map(
        lambda pair: sorted(pair) if None not in pair else list(pair)  # type: ignore[type-var]
    )
    return st.builds(
        lambda doc, unit, between, may_miss: {
            "doc": doc, "unit": unit, "low": between[0], "high": between[1], "optional": optional and may_miss,
        },
        st.text(max_size=8), st.text(max_size=3), bounds, st.booleans(),
    )  # fmt: skip


@st.composite
def tensors(draw: st.DrawFn, optional: bool = False) -> Tensor:
    """What may be optional may be shared too: both are for inputs alone."""
    row = draw(st.lists(sizes, max_size=3))
    ragged = bool(row) and isinstance(row[0], Axis) and draw(st.booleans())
    shared = optional and draw(st.booleans())
    return Tensor(
        draw(st.sampled_from(NUMERIC)), row if shared else ("batch", *row), shared=shared,
        finite=draw(st.booleans()), ragged=ragged, pad=draw(numbers), **draw(facts(optional)),
    )  # fmt: skip


@st.composite
def labels(draw: st.DrawFn, optional: bool = False) -> Label:
    return Label(tuple(draw(names)), ("batch", *draw(st.lists(sizes, max_size=1))), **draw(facts(optional)))


def fields(optional: bool = False) -> st.SearchStrategy[Field]:
    texts = st.builds(
        lambda limit, overflow, common: Text(limit, overflow, **common),
        st.integers(1, 10_000), st.sampled_from(["refuse", "truncate"]), facts(optional),
    )  # fmt: skip
    images = st.builds(
        lambda formats, common: Image(formats, **common),
        st.lists(st.sampled_from(["jpeg", "png", "webp"]), min_size=1, max_size=3, unique=True), facts(optional),
    )  # fmt: skip
    return tensors(optional) | labels(optional) | texts | images


parameters: st.SearchStrategy[Parameter] = st.one_of(
    st.builds(
        Int, st.integers(0, 9), st.none() | st.integers(-9, 0), st.none() | st.integers(9, 99), per_row=st.booleans()
    ),
    st.builds(
        Float, st.floats(0, 1), st.none() | st.floats(-9, 0), st.none() | st.floats(1, 9), doc=st.text(max_size=9)
    ),
    st.builds(Bool, st.booleans(), doc=st.text(max_size=9)),
    names.map(lambda choices: Choice(choices[0], choices)),
    st.builds(Str, st.text(max_size=9)),
)


@st.composite
def graphs_of_one_ragged_axis(draw: st.DrawFn) -> GraphSpec:
    inputs = draw(st.dictionaries(words, tensors(), min_size=1, max_size=2))
    outputs = draw(st.dictionaries(words, tensors(), min_size=1, max_size=2))
    assume(len({item.axes[1] for item in inputs.values() if item.ragged}) < 2)
    some = any(item.ragged for item in inputs.values())
    return GraphSpec(inputs=inputs, outputs=outputs, lengths=next(iter(inputs)) if some else None)


@st.composite
def with_tolerance(draw: st.DrawFn, specs: st.SearchStrategy[ModelSpec]) -> ModelSpec:
    spec = draw(specs)
    return replace(spec, tolerance=draw(st.dictionaries(st.sampled_from(list(spec.outputs)), st.floats(0.0, 1.0))))


@st.composite
def with_top_k(draw: st.DrawFn, specs: st.SearchStrategy[ModelSpec]) -> ModelSpec:
    """Half of them rank their rows; the names are longer than those that are drawn."""
    spec = draw(specs)
    if draw(st.booleans()):
        return spec
    score = Tensor(draw(st.sampled_from(NUMERIC[1:])), draw(st.sampled_from([("batch",), ("batch", 1)])))
    return replace(
        spec,
        outputs={**spec.outputs, "ranked.score": score},
        parameters={**spec.parameters, "ranked.k": Int(3, low=1)},
        top_k=TopK("ranked.score", "ranked.k", "ranked.place"),
    )


graphs = graphs_of_one_ragged_axis()
policies = st.builds(
    BatchPolicy,
    max_rows=st.integers(1, 99), max_cost=st.none() | st.integers(1, 99), run_rows=st.none() | st.integers(1, 9),
    request_rows=st.none() | st.integers(99, 9999), run_cells=st.none() | st.integers(1, 9999),
    max_padding=st.sampled_from([0.0, 0.25, 0.5]),
)  # fmt: skip
without_tolerance = st.builds(
    ModelSpec,
    name=st.builds(lambda a, b: f"{a}.{b}", words, words),
    version=st.integers(1, 2**31 - 1),
    inputs=st.dictionaries(words, fields(optional=True), min_size=1, max_size=3),
    outputs=st.dictionaries(words, fields(), min_size=1, max_size=3),
    parameters=st.dictionaries(words, parameters, max_size=3),
    graph=st.none() | graphs | st.dictionaries(words, graphs, min_size=1, max_size=2),
    batch=policies,
    quality=st.none() | st.floats(0, 1),
    opset=st.none() | st.integers(17, 24),
    doc=st.text(max_size=9),
    license=st.text(max_size=9),
    languages=st.lists(st.sampled_from(["en", "zh"]), max_size=2).map(tuple),
)
specifications = with_tolerance(with_top_k(without_tolerance))
