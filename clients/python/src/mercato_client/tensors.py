"""Wire tensors and numpy arrays: little-endian bytes in C order, or one item per string."""

from typing import Any

import numpy as np
import numpy.typing as npt

from mercato.v1 import tensor_pb2
from mercato_client.errors import ServerError

Array = npt.NDArray[Any]

# bfloat16 travels as its bit pattern, since numpy has no such type of its own.
WIRE: dict[str, np.dtype[Any]] = {
    "bool": np.dtype("bool"),
    "int8": np.dtype("<i1"),
    "int16": np.dtype("<i2"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "uint8": np.dtype("<u1"),
    "uint16": np.dtype("<u2"),
    "uint32": np.dtype("<u4"),
    "uint64": np.dtype("<u8"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
}
_ENUM = {"float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64"}
_NUMBERS = {name: tensor_pb2.DataType.Value(f"DATA_TYPE_{_ENUM.get(name, name.upper())}") for name in WIRE}
_NUMBERS |= {"string": tensor_pb2.DATA_TYPE_STRING, "bytes": tensor_pb2.DATA_TYPE_BYTES}
_NAMES = {int(number): name for name, number in _NUMBERS.items()}


def dtype_name(number: int) -> str:
    """The type's name, such as "float32"; `type 17` for one newer than this client."""
    return _NAMES.get(number) or f"type {number}"


def encode_numbers(array: Array, dtype: str, tensor: tensor_pb2.Tensor) -> None:
    """Fill `tensor` with an array that already has the element type `dtype`."""
    wire = np.asarray(_bits(array) if dtype == "bfloat16" else array, WIRE[dtype])
    tensor.dtype = _NUMBERS[dtype]
    tensor.shape.extend(array.shape)
    tensor.data = wire.tobytes()


def encode_items(items: list[bytes], shape: tuple[int, ...], dtype: str, tensor: tensor_pb2.Tensor) -> None:
    """Fill `tensor` with texts as UTF-8 ("string"), or raw items ("bytes"), in C order."""
    tensor.dtype = _NUMBERS[dtype]
    tensor.shape.extend(shape)
    tensor.items.extend(items)


def decode(tensor: tensor_pb2.Tensor) -> Array:
    """A read-only array; texts come as objects of str, items as objects of bytes, bfloat16 widened to float32."""
    dtype = dtype_name(tensor.dtype)
    try:
        flat = _items(tensor, dtype) if dtype in ("string", "bytes") else _numbers(tensor.data, dtype)
        flat.flags.writeable = False
        return flat.reshape(tuple(tensor.shape))
    except (KeyError, ValueError) as error:
        raise ServerError(f"the answer holds a tensor of {dtype} {list(tensor.shape)} that cannot be read") from error


def _items(tensor: tensor_pb2.Tensor, dtype: str) -> Array:
    flat = np.empty(len(tensor.items), object)
    flat[:] = [item.decode() for item in tensor.items] if dtype == "string" else list(tensor.items)
    return flat


def _numbers(data: bytes, dtype: str) -> Array:
    flat = np.frombuffer(data, WIRE[dtype])
    return widen(flat) if dtype == "bfloat16" else flat


def widen(bits: Array) -> npt.NDArray[np.float32]:
    """bfloat16 bit patterns as the float32 of the same value."""
    return (bits.astype("<u4") << 16).view("<f4")


def round_to_bfloat16(values: Array) -> npt.NDArray[np.uint16]:
    """float32 values as bfloat16 bit patterns, to nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, "<f4").view("<u4").astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype("<u2")


def _bits(array: Array) -> Array:
    return array if array.dtype == np.uint16 else array.view(np.uint16)
