"""A caller's values become tensors of the model's types, and come back as they were."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.client.fake import encode

from mercato_client.errors import InvalidInput, ServerError
from mercato_client.schema import Axis, Field
from mercato_client.tensors import WIRE, decode, round_to_bfloat16, widen

NUMPY = sorted(set(WIRE) - {"bfloat16"})
BATCH = Axis("batch", 0, 0)


def field(dtype: str, *sizes: int, kind: str = "tensor", **facts: Any) -> Field:
    return Field("x", kind, dtype, (BATCH, *(Axis("", size, 0) for size in sizes)), **facts)


def refused(a_field: Field, value: object) -> str:
    with pytest.raises(InvalidInput) as caught:
        encode(a_field, value)
    assert caught.value.field == "inputs.x"
    return caught.value.message


class Column:
    """What pandas and polars columns have in common."""

    def __init__(self, values: list[Any], dtype: Any = None) -> None:
        self._values = np.array(values, dtype)

    def to_numpy(self) -> np.ndarray[Any, Any]:
        return self._values


@given(st.data())
def test_arrays_of_every_type_come_back_unchanged(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(NUMPY))
    array = data.draw(arrays.arrays(dtype, arrays.array_shapes(max_dims=4, max_side=5)))
    back = decode(encode(field(dtype), array))
    assert back.dtype == array.dtype and back.shape == array.shape
    assert back.tobytes() == array.tobytes()
    assert not back.flags.writeable


@pytest.mark.parametrize("dtype", NUMPY)
def test_plain_numbers_take_the_models_type(dtype: str) -> None:
    back = decode(encode(field(dtype, 2), [[0, 1], [1, 0]]))
    assert back.dtype == dtype and back.tolist() == [[0, 1], [1, 0]]


@given(arrays.arrays(np.float32, 8, elements=st.floats(width=32)))
def test_bfloat16_rounds_as_ml_dtypes_does(values: Any) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        expected = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(widen(round_to_bfloat16(values)), expected)


def test_bfloat16_arrays_travel_as_they_are_and_come_back_as_float32() -> None:
    array = np.array([[1.0, 3.140625, -2.5]], ml_dtypes.bfloat16)
    back = decode(encode(field("bfloat16", 3), array))
    assert back.dtype == np.float32 and back.tolist() == [[1.0, 3.140625, -2.5]]


def test_byte_order_and_strides_do_not_matter() -> None:
    array = np.arange(12, dtype=">f4").reshape(3, 4).T
    assert decode(encode(field("float32", 3), array)).tolist() == array.tolist()


@pytest.mark.parametrize("value", [4.0, np.float32(4.0), np.array(4.0, np.float32)])
def test_a_lone_number_is_one_row(value: object) -> None:
    assert decode(encode(field("float32"), value)).tolist() == [4.0]


def test_a_shared_input_has_no_batch_axis() -> None:
    shared = Field("x", "tensor", "float32", (), shared=True)
    assert decode(encode(shared, 4.0)).shape == ()
    assert decode(encode(Field("x", "text", "string", (), shared=True), "hat")).shape == ()


def test_columns_take_the_models_type_and_shape() -> None:
    assert decode(encode(field("float32", 1), Column([1.0, 2.0]))).tolist() == [[1.0], [2.0]]
    assert decode(encode(field("int64"), Column([1.0, 2.0]))).tolist() == [1, 2]
    assert decode(encode(field("string", kind="text"), Column(["a", "b"], object))).tolist() == ["a", "b"]


def test_an_array_of_another_type_is_refused_with_the_conversion_to_write() -> None:
    got = refused(field("float32", 1), np.array([[4.0]]))
    assert got == "inputs.x: got float64, expected float32; write x.astype(np.float32)"
    assert "write x.astype(np.bool_)" in refused(field("bool"), np.array([1]))
    assert "write x.astype(ml_dtypes.bfloat16)" in refused(field("bfloat16"), np.array([1.0]))
    assert "got bfloat16, expected float32" in refused(field("float32"), np.ones(1, ml_dtypes.bfloat16))
    assert refused(field("float32"), np.array(["4"])) == "inputs.x: got text, expected float32"


@pytest.mark.parametrize(
    ("dtype", "value", "text"),
    [
        ("int64", [1.5], "got a fraction, infinity or NaN, expected int64"),
        ("int64", [float("nan")], "got a fraction, infinity or NaN, expected int64"),
        ("int8", [128], "a value is beyond -128 to 127, the range of int8"),
        ("uint64", [-1], "a value is beyond 0 to 18446744073709551615, the range of uint64"),
        ("bool", [2], "a value is beyond 0 to 1, the range of bool"),
        ("int64", [2**64], "got a number of more than 64 bits, expected int64"),
        ("float16", [1e6], "a value is beyond the range of float16"),
        ("bfloat16", [1e300], "a value is beyond the range of bfloat16"),
        ("float32", ["4"], "got text, expected float32"),
        ("float32", [None], "got NoneType, expected float32"),
        ("float32", [[1.0], [1.0, 2.0]], "rows differ in shape; expected a regular array of float32"),
        ("type 99", [1.0], "this client does not know type 99; upgrade mercato-client"),
    ],
)
def test_plain_values_that_do_not_fit_are_refused(dtype: str, value: object, text: str) -> None:
    assert refused(field(dtype), value) == f"inputs.x: {text}"


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("uint64", [2**63 + 1, 1]),
        ("int64", [2**53 + 1, 1.0]),
        ("int64", [[np.uint64(2**53 + 1), -1], [True, np.float32(2.0)]]),
    ],
)
def test_whole_numbers_of_mixed_kinds_stay_exact(dtype: str, value: Any) -> None:
    back = decode(encode(field(dtype), value))
    assert back.tolist() == np.array(value, object).tolist()


@pytest.mark.parametrize("value", [[2**63, -1], [2.0**63, 1], [-(2.0**70)]])
def test_whole_numbers_of_mixed_kinds_have_a_range(value: Any) -> None:
    assert "a value is beyond -9223372036854775808 to 9223372036854775807" in refused(field("int64"), value)


def test_masked_entries_are_refused() -> None:
    masked, whole = (np.ma.array([1.0, 2.0], np.float32, mask=mask) for mask in ([False, True], [False, False]))
    got = "inputs.x: got masked entries, expected a value for each; write x.filled(...)"
    assert refused(field("float32"), masked) == got
    assert refused(field("float32", ragged=True), [masked, masked[:1]]) == got
    assert refused(field("string", kind="text"), np.ma.array(["a", "b"], mask=[True, False])) == got
    assert decode(encode(field("float32"), whole)).tolist() == [1.0, 2.0]


def test_nan_and_infinity_are_left_to_the_model() -> None:
    back = decode(encode(field("float16"), [float("nan"), float("inf")]))
    assert np.isnan(back[0]) and np.isinf(back[1])


@given(st.lists(st.lists(st.integers(-5, 5), max_size=4), min_size=1, max_size=5))
def test_rows_of_different_length_travel_back_to_back(rows: list[list[int]]) -> None:
    tensor = encode(field("int32", ragged=True), rows)
    lengths = [len(row) for row in rows]
    assert list(tensor.shape) == [len(rows), max(lengths)]
    assert list(tensor.row_lengths) == (lengths if len(set(lengths)) > 1 else [])
    assert np.frombuffer(tensor.data, "<i4").tolist() == [item for row in rows for item in row]


def test_ragged_rows_may_be_arrays_with_further_axes() -> None:
    tensor = encode(field("float32", ragged=True), [np.ones((2, 3), np.float32), np.zeros((1, 3), np.float32)])
    assert list(tensor.shape) == [2, 2, 3] and list(tensor.row_lengths) == [2, 1]
    assert "write x.astype(np.float32)" in refused(field("float32", ragged=True), [np.ones(2), np.ones(1)])
    assert "expected a list of rows" in refused(field("float32", ragged=True), [1.0, 2.0])


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_texts_come_back_as_objects_of_str(texts: list[str]) -> None:
    back = decode(encode(field("string", kind="text"), texts))
    assert back.dtype == object and back.tolist() == texts


@pytest.mark.parametrize(
    "value", ["红色跑鞋", np.array(["红色跑鞋"]), np.array(["红色跑鞋"], object), np.str_("红色跑鞋")]
)
def test_one_text_is_one_row(value: object) -> None:
    back = decode(encode(field("string", kind="text"), value))
    assert back.shape == (1,) and back.tolist() == ["红色跑鞋"]


def test_wrong_texts_are_refused() -> None:
    texts = field("string", kind="text")
    assert refused(texts, [b"a"]) == "inputs.x: got bytes, expected str"
    assert refused(texts, ["\ud800"]) == "inputs.x: got a lone surrogate, expected Unicode text"
    assert refused(texts, ["a", ["b"]]) == "inputs.x: rows differ in shape; expected a regular list"


def test_images_are_bytes_or_files(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\0")
    images = field("bytes", kind="image")
    assert decode(encode(images, [b"\xff\0", path, bytearray(b"b")])).tolist() == [b"\xff\0", b"\xff\xd8\0", b"b"]
    assert decode(encode(images, path)).tolist() == [b"\xff\xd8\0"]
    assert "the file cannot be read: No such file" in refused(images, tmp_path / "absent.jpg")
    assert "got str, expected the bytes of a file" in refused(images, "photo.jpg")


def test_an_answer_that_cannot_be_read_is_the_servers_error() -> None:
    tensor = encode(field("float32"), [1.0])
    tensor.shape[:] = [2]
    with pytest.raises(ServerError, match=r"a tensor of float32 \[2\] that cannot be read"):
        decode(tensor)
    tensor.dtype = 99  # type: ignore[assignment]
    with pytest.raises(ServerError, match="a tensor of type 99"):
        decode(tensor)
