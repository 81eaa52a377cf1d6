"""Batches and results through shared memory: what goes in comes out, and nothing else."""

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mercato_server.contract.batch import BatchResult, JoinedBatch
from mercato_server.runtime.packing import (
    RESERVED,
    Packed,
    Unpackable,
    pack_batch,
    pack_result,
    unpack_batch,
    unpack_result,
)

NUMBERS = st.sampled_from([
    np.dtype(name) for name in (
        "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64",
    )
])  # fmt: skip
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


def objects(items: list[Any], shape: tuple[int, ...]) -> Any:
    array = np.empty(shape, object)
    array.ravel()[:] = items
    return array


@st.composite
def of_items(draw: st.DrawFn) -> Any:
    shape = draw(SHAPES)
    kind = draw(st.sampled_from([st.text(st.characters(), max_size=8), st.binary(max_size=8)]))
    size = int(np.prod(shape))
    return objects(draw(st.lists(kind, min_size=size, max_size=size)), shape)


ARRAYS = st.one_of(arrays.arrays(NUMBERS, SHAPES), of_items())
NAMED = st.dictionaries(st.text(max_size=5), ARRAYS, max_size=4)


def written(packed: Packed) -> tuple[memoryview, bytes]:
    """As the other side gets it; bytes around it are dirty."""
    memory = memoryview(bytearray(b"\xa5" * (packed.end + 10)))
    packed.write(memory)
    assert bytes(memory[:RESERVED]) == b"\xa5" * RESERVED and bytes(memory[packed.end :]) == b"\xa5" * 10
    return memory[: packed.head_at], bytes(memory[packed.head_at : packed.end])


def same(got: Any, expected: Any) -> None:
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].dtype == array.dtype and got[name].shape == array.shape
        assert got[name].tolist() == array.tolist() or np.array_equal(got[name], array, equal_nan=True)


@given(NAMED, NAMED, NAMED, st.floats(allow_nan=False) | st.none())
def test_a_batch_comes_out_as_it_went_in(inputs: Any, columns: Any, present: Any, deadline: float | None) -> None:
    values = {"k": 3, "scale": 0.5, "on": True, "word": "紅い\ud800"}
    columns = {f"column {name}": array for name, array in columns.items()}
    batch = JoinedBatch(inputs, 7, {**values, **columns}, {"x": np.arange(3)}, present, deadline)

    got = unpack_batch(*written(pack_batch(batch)))

    same(got.inputs, inputs)
    same(got.present, present)
    same(got.lengths, batch.lengths)
    same({name: got.parameters[name] for name in columns}, columns)
    assert {name: got.parameters[name] for name in values} == values
    assert (got.rows, got.deadline) == (7, deadline)


@given(NAMED)
def test_a_result_comes_out_as_it_went_in(outputs: Any) -> None:
    result = BatchResult(
        outputs, {3: ("text", "no")}, {"text": frozenset({1, 2})}, 1, 2, 3, padding=0.25, provider="cuda"
    )
    got = unpack_result(*written(pack_result(result)))

    same(got.outputs, outputs)
    assert (got.rejected, got.truncated) == (result.rejected, result.truncated)
    assert (got.pre_ns, got.compute_ns, got.post_ns, got.padding, got.provider) == (1, 2, 3, 0.25, "cuda")


def test_numbers_of_numpy_and_what_is_no_text_pass_where_a_plugin_puts_them() -> None:
    rejected: Any = {np.int64(1): (np.str_("x"), 7)}
    truncated: Any = {"x": frozenset({np.int64(2)})}
    got = unpack_result(*written(pack_result(BatchResult({}, rejected, truncated, padding=np.float64(0.5)))))

    assert got.rejected == {1: ("x", "7")} and got.truncated == {"x": frozenset({2})}


@pytest.mark.parametrize(
    "array", [np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::-2], np.broadcast_to(np.int8(3), (2, 3))]
)
def test_what_is_not_contiguous_arrives_contiguous(array: Any) -> None:
    got = unpack_result(*written(pack_result(BatchResult({"y": array})))).outputs["y"]
    assert got.tolist() == array.tolist() and got.flags.c_contiguous


def test_bfloat16_passes() -> None:
    array = np.array([1.5, -2], ml_dtypes.bfloat16)
    got = unpack_result(*written(pack_result(BatchResult({"y": array})))).outputs["y"]
    assert got.dtype == array.dtype and got.tolist() == array.tolist()


@pytest.mark.parametrize(
    ("items", "why"),
    [(["a", None], "NoneType"), ([b"a", "b"], "str and bytes"), ([[1]], "list"), ([1], "int")],
)
def test_other_objects_are_refused_by_name(items: list[Any], why: str) -> None:
    with pytest.raises(Unpackable, match=f"'y' holds {why}, expected str or bytes"):
        pack_result(BatchResult({"y": objects(items, (len(items),))}))


def test_what_was_read_no_longer_changes() -> None:
    memory, head = written(pack_batch(JoinedBatch({"x": np.ones(3)}, 3)))
    got = unpack_batch(memory, head)
    memory[RESERVED:] = b"\0" * (len(memory) - RESERVED)
    assert got.inputs["x"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "place",
    [
        ["float32", [10**9], 64],
        ["float32", [4], 2**62],
        ["float32", [4], -8],
        ["float32", [-1], 64],
        ["object", [1], 64],
        ["float128", [1], 64],
        ["string", [2**40], 64, 64, 0],
        ["string", [1], 64, 0, 10**12],
        ["strange", [1], 64],
    ],
)
def test_a_head_that_points_outside_is_refused_without_memory_for_it(place: list[Any]) -> None:
    head = json.dumps({"outputs": {"y": place}, "rejected": [], "truncated": {}}).encode()
    with pytest.raises((LookupError, TypeError, ValueError)):
        unpack_result(memoryview(bytearray(256)), head)
