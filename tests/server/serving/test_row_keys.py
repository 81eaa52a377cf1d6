"""Keys of rows: equal for equal rows, whatever stands around them, and different for any difference."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mercato_server.contract.batch import Array
from mercato_server.serving.batch import PerRow
from mercato_server.serving.request import Request
from mercato_server.serving.row_keys import row_keys

# One row, written so that two are equal exactly if their `repr` is: dtype, shape and values of a number input,
# the cells of a ragged one, a text, whether an optional input is there, the parameter and the wanted outputs.
Content = tuple[str, tuple[int, ...], tuple[int, ...], tuple[int, ...], str | bytes, bool, Any, frozenset[str]]

PARTS: tuple[st.SearchStrategy[Any], ...] = (
    st.sampled_from(["<f4", "<i4", "<i2"]),
    st.sampled_from([(2,), (1, 2), (2, 1)]),
    st.sampled_from([(0, 0), (0, 1), (1, 0)]),
    st.sampled_from([(), (0,), (0, 0), (1,)]),
    st.sampled_from(["", "a", b"a", "0"]),
    st.booleans(),
    st.sampled_from([1, 1.0, True, "1", "True", 0.0, -0.0]),
    st.sampled_from([frozenset(), frozenset("y"), frozenset("z"), frozenset("yz")]),
)
CONTENTS: st.SearchStrategy[Content] = st.tuples(*PARTS)

SERVED = ["deadline", "group", "cost", "priority", "caller", "truncations", "k"]


def made(content: Content, before: Sequence[Content] = (), width: int = 2, turned: bool = False) -> Request:
    """A request whose last row has this content; rows `before` it differ in values alone."""
    rows = [*before, content]
    dtype, shape, _, _, _, _, parameter, outputs = content
    texts = np.empty(len(rows), object)
    texts[:] = [row[4] for row in rows]
    ragged = np.full((len(rows), width), 7, np.int64)
    for place, row in enumerate(rows):
        ragged[place, : len(row[3])] = row[3]
    inputs: dict[str, Array] = {
        "x": np.array([np.reshape(row[2], shape) for row in rows], dtype),
        "ids": ragged,
        "t": texts,
        "o": np.zeros(len(rows)),
    }
    return Request(
        dict(reversed(inputs.items())) if turned else inputs,
        len(rows),
        1.0,
        parameters={"k": parameter},
        lengths={"ids": np.array([len(row[3]) for row in rows], np.int64)},
        present={"o": np.array([row[5] for row in rows])},
        outputs=tuple(sorted(outputs, reverse=turned)),
    )


def keys(request: Request, digest: str = "d", model: str = "shop.tiny") -> list[bytes]:
    return row_keys(model, digest, request)


def of(*inputs: Array, **facts: Any) -> list[bytes]:
    named = {f"i{place}": array for place, array in enumerate(inputs)}
    return keys(Request(named, len(inputs[0]), 1.0, **facts))


@settings(derandomize=True, deadline=None, max_examples=500)
@given(CONTENTS, st.data())
def test_rows_have_one_key_exactly_if_nothing_differs(one: Content, data: st.DataObject) -> None:
    changed = data.draw(st.sampled_from(range(len(PARTS))))
    other: Any = (*one[:changed], data.draw(PARTS[changed]), *one[changed + 1 :])
    assert (keys(made(one)) == keys(made(other))) == (repr(one) == repr(other))


@settings(derandomize=True, deadline=None)
@given(CONTENTS, st.lists(CONTENTS, max_size=3), st.integers(2, 5), st.booleans())
def test_neither_neighbours_nor_padding_nor_the_order_of_names_matter(
    content: Content, before: list[Content], width: int, turned: bool
) -> None:
    assert keys(made(content, before, width, turned))[-1:] == keys(made(content))


@settings(derandomize=True, deadline=None)
@given(
    CONTENTS,
    st.integers(0, 4),
    st.sampled_from(["deadline", "group", "cost", "priority", "caller", "truncations", "k"]),
)
def test_how_a_request_is_served_does_not_matter(content: Content, value: int, name: str) -> None:
    request = made(content)
    facts: dict[str, Any] = {"group": (value,), "caller": str(value), "truncations": {"t": value}}
    assert keys(replace(request, **{name: facts.get(name, value)})) == keys(request)


def test_a_key_has_16_bytes_and_belongs_to_one_model_and_artifact() -> None:
    request = Request({"x": np.zeros((3, 2))}, 3, 1.0)
    found = {key for model in "ab" for digest in "ab" for key in keys(request, digest, model)}

    assert {len(key) for key in found} == {16}
    assert len(found) == 4


@pytest.mark.parametrize("value", [3, 0.5, False, "near"])
def test_a_parameter_counts_by_its_value_per_row_or_not(value: float | str) -> None:
    x = np.zeros(1)
    assert of(x, parameters={"k": PerRow(value)}) == of(x, parameters={"k": value})
    assert of(x, parameters={"k": PerRow(value)}) != of(x, parameters={"k": PerRow(str(value) + " ")})
    assert of(x, parameters={"k": value}) != of(x, parameters={"j": value})


def test_every_dtype_of_one_size_has_keys_of_its_own() -> None:
    two = [np.dtype(name) for name in ("float16", "int16", "uint16", ">i2", ml_dtypes.bfloat16)]
    one = [np.dtype(name) for name in ("bool", "int8", ml_dtypes.float8_e4m3b11fnuz, ml_dtypes.float8_e4m3fn)]
    for dtypes in (one, two):
        assert len({of(np.zeros((1, 2), dtype))[0] for dtype in dtypes}) == len(dtypes)


def test_the_bytes_of_one_input_do_not_stand_for_those_of_another() -> None:
    pairs = [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", ""), ("as", "b"), ("a", "sb")]
    assert len({of(*(np.array([item], object) for item in pair))[0] for pair in pairs}) == len(pairs)


def test_items_of_a_row_are_told_apart() -> None:
    rows = np.array([["ab", "c"], ["a", "bc"], ["a", b"bc"]], object)
    assert len(set(of(rows))) == 3


def test_rows_that_share_an_input_have_the_keys_of_rows_that_repeat_it() -> None:
    x = np.arange(6.0).reshape(3, 2)
    shared, texts = np.array([7.0, 8.0]), np.array("near", object)
    broadcast = of(x, np.broadcast_to(shared, (3, 2)), np.broadcast_to(texts, 3))

    assert broadcast == of(x, np.tile(shared, (3, 1)), np.array(["near"] * 3, object))
    assert len(set(broadcast)) == 3


def test_what_lies_in_memory_in_another_order_is_the_same() -> None:
    x = np.arange(12.0).reshape(3, 4)
    assert of(np.asfortranarray(x)) == of(x) == of(np.repeat(x, 2, axis=0)[::2])


def shared(array: Array, rows: int) -> Array:
    return np.broadcast_to(array, (rows, *array.shape))


LONG = np.arange(400.0)
TEXTS = np.array([f"{place:0100d}" for place in range(20)], object)


@pytest.mark.parametrize("row", [LONG, TEXTS, np.array("x" * 2000, object), np.zeros((0, 3))])
def test_a_shared_input_counts_alike_in_one_row_in_many_and_repeated(row: Array) -> None:
    x = np.arange(3.0)
    many = of(shared(row, 3), x)

    assert many == of(np.stack([row] * 3), x) == [of(row[None], x[place : place + 1])[0] for place in range(3)]
    assert len(set(many)) == 3


@pytest.mark.parametrize("lengths", [[400, 400, 400], [400, 1, 0]])
def test_a_shared_ragged_input_counts_alike_repeated(lengths: list[int]) -> None:
    facts = {"lengths": {"i0": np.array(lengths)}}
    assert of(shared(LONG, 3), **facts) == of(np.stack([LONG] * 3), **facts)
    one = of(LONG[None, :], lengths={"i0": np.array([400])})
    assert (of(shared(LONG, 3), **facts)[2:] == one) == (lengths[2] == 400)


def test_long_rows_differ_in_any_cell() -> None:
    changed = LONG.copy()
    changed[-1] += 1
    other = TEXTS.copy()
    other[-1] += "0"
    assert of(LONG[None]) != of(changed[None]) and of(TEXTS[None]) != of(other[None])
    assert of(np.array([TEXTS[0] * 20], object)) != of(np.array([(TEXTS[0] * 20).encode()], object))


class Counted:
    """An array's row that tells how often it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def encode(self) -> bytes:
        self.reads += 1
        return b"x" * 2000


def test_a_shared_input_is_read_once() -> None:
    text = type("Text", (Counted, str), {})()
    array = np.empty((), object)
    array[()] = text
    of(shared(array, 1000))

    assert text.reads == 1


@pytest.mark.parametrize("row", [np.zeros(6400), np.array(["x" * 100] * 510, object)])
def test_a_shared_input_costs_each_row_next_to_nothing(row: Array) -> None:
    """Less than twice the time without it; to digest 51 KB in every row takes a hundred times as long."""
    x = np.zeros(1000)

    def seconds(*inputs: Array) -> float:
        since = time.perf_counter()
        of(*inputs)
        return time.perf_counter() - since

    assert min(seconds(x, shared(row, 1000)) for _ in range(5)) < 15 * min(seconds(x) for _ in range(5))
