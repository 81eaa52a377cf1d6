"""What the client encodes, the server's codec reads, and the reverse."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.client.fake import encode

from mercato.v1 import tensor_pb2
from mercato_client import schema
from mercato_client.tensors import decode
from mercato_plugin import Axis, Field, Image, Label, Tensor, Text
from mercato_server.rpc.codec import Bad, FieldCodec

BATCH = schema.Axis("batch", 0, 0)
JPEG = bytes.fromhex("ffd8 ffc0000b080001000101011100 ffda0002 ffd9")  # a frame of one pixel, pixels, end
SIDES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=6)


def field(dtype: str, kind: str = "tensor", **facts: Any) -> schema.Field:
    return schema.Field("x", kind, dtype, (BATCH,), **facts)


def served(item: Field, tensor: tensor_pb2.Tensor) -> Any:
    return FieldCodec("x", item, max_rows=16).decode(tensor)[0]


@given(st.sampled_from(["bool", "int8", "uint16", "int64", "float16", "float32", "float64"]), st.data())
def test_numbers_both_ways(dtype: str, data: st.DataObject) -> None:
    array = data.draw(arrays.arrays(dtype, SIDES))
    item = Tensor(dtype, ("batch", Axis("n", max=8)), finite=False)
    read = served(item, encode(field(dtype), array))
    assert read.dtype == array.dtype and read.tobytes() == array.tobytes()
    back = decode(FieldCodec("x", item, max_rows=16).encode(array))
    assert back.dtype == array.dtype and back.tobytes() == array.tobytes()


@given(st.lists(st.lists(st.integers(1, 9), max_size=5), min_size=1, max_size=6).filter(any))
def test_rows_of_different_length(rows: list[list[int]]) -> None:
    item = Tensor("int64", ("batch", Axis("n", max=8)), ragged=True)
    padded, lengths, _ = FieldCodec("x", item, max_rows=16).decode(encode(field("int64", ragged=True), rows))
    assert lengths is not None and lengths.tolist() == [len(row) for row in rows]
    assert [row[:length].tolist() for row, length in zip(padded, lengths, strict=True)] == rows


def test_bfloat16_texts_labels_and_images() -> None:
    assert served(Tensor("bfloat16", ("batch",)), encode(field("bfloat16"), [1.0, -2.5])).tolist() == [1.0, -2.5]
    assert served(Text(), encode(field("string", "text"), ["红色跑鞋"])).tolist() == ["红色跑鞋"]
    assert served(Label(("warm", "cold")), encode(field("string", "label"), ["cold"])).tolist() == [1]
    assert served(Image(), encode(field("bytes", "image"), JPEG)).tolist() == [JPEG]


def test_a_shared_input_has_one_value() -> None:
    shared = schema.Field("x", "tensor", "float32", (), shared=True)
    assert served(Tensor("float32", (), shared=True), encode(shared, 4.0)) == 4.0


@pytest.mark.parametrize("value", [[], [7], [1, 2, 3], np.array([4, 5])])
def test_a_shared_ragged_input_has_one_value_of_any_length(value: Any) -> None:
    shared = schema.Field("x", "tensor", "int64", (schema.Axis("n", 0, 8),), ragged=True, shared=True)
    item = Tensor("int64", (Axis("n", max=8),), ragged=True, shared=True)
    array, lengths, _ = FieldCodec("x", item, max_rows=16).decode(encode(shared, value))
    assert lengths is not None and lengths.tolist() == [len(value)]
    assert array[: len(value)].tolist() == list(value)


def test_a_row_count_over_the_limit_is_left_to_the_server() -> None:
    with pytest.raises(Bad, match="expected"):
        served(Tensor("float32", ("batch",)), encode(field("float32"), np.zeros(17, np.float32)))
