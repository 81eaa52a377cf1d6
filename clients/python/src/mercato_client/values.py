"""One input's value as an array or tensor of the type that the model's signature names."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mercato.v1 import tensor_pb2
from mercato_client.errors import InvalidInput, Violation
from mercato_client.schema import Field
from mercato_client.tensors import WIRE, Array, encode_items, encode_numbers, round_to_bfloat16, widen

# As many dimensions as numpy allows.
MAX_DEPTH = 64


def encode(field: Field, value: object, tensor: tensor_pb2.Tensor) -> None:
    """Fill `tensor` with the value. Raises InvalidInput naming the field, what was got and what to write.

    Plain Python values, columns and object arrays take the field's type where that loses nothing but
    floating-point precision. Arrays must have it already. A single item counts as one row.
    """
    if field.dtype == "string":
        return _encode_items(field, value, _text, tensor)
    if field.dtype == "bytes":
        return _encode_items(field, value, _file, tensor)
    if field.dtype not in WIRE:
        raise refusal(field, f"this client does not know {field.dtype}; upgrade mercato-client")
    plain = _plain(field, value)
    if field.ragged and not field.shared and isinstance(plain, list | tuple):
        return _encode_rows(field, plain, tensor)
    return encode_numbers(_one_row(field, _numbers(field, plain), value), field.dtype, tensor)


def refusal(field: Field, description: str) -> InvalidInput:
    """The error for one field."""
    return InvalidInput.of(Violation(f"inputs.{field.name}", description))


def _plain(field: Field, value: object) -> Any:
    """Columns and object arrays as plain values; numeric arrays, and what exports one, as arrays."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise refusal(field, f"got masked entries, expected a value for each; write {_variable(field)}.filled(...)")
    if isinstance(value, np.ndarray):
        return value.tolist() if value.dtype.kind == "O" else value
    if isinstance(value, list | tuple):
        return value
    if hasattr(value, "to_numpy"):
        return value.to_numpy().tolist()
    return np.asarray(value) if hasattr(value, "__array__") else value


def _one_row(field: Field, array: Array, value: object) -> Array:
    """A lone number is one row; a column of (rows,) fits axes such as (batch, 1)."""
    if array.ndim == 0 and not field.shared:
        return array.reshape(1)
    rest = field.axes[1:]
    if array.ndim == 1 and rest and hasattr(value, "to_numpy") and all(axis.size == 1 for axis in rest):
        return array.reshape(-1, *(1 for _ in rest))
    return array


def _numbers(field: Field, value: Any) -> Array:
    if isinstance(value, np.ndarray):
        return _checked(field, value)
    try:
        return _cast(field, np.asarray(value), value)
    except ValueError as error:
        raise refusal(field, f"rows differ in shape; expected a regular array of {field.dtype}") from error


def _checked(field: Field, array: Array) -> Array:
    """An array keeps its type: converting silently would hide a mistake or cost precision."""
    if array.dtype == field.dtype or array.dtype.name == field.dtype:
        return array
    if array.dtype.kind not in "biufcV":
        raise refusal(field, f"got {_kind(array)}, expected {field.dtype}")
    module = "ml_dtypes" if field.dtype == "bfloat16" else "np"
    target = "bool_" if field.dtype == "bool" else field.dtype
    got = f"got {array.dtype.name}, expected {field.dtype}"
    raise refusal(field, f"{got}; write {_variable(field)}.astype({module}.{target})")


def _variable(field: Field) -> str:
    """What the caller's array may be called in a line of Python."""
    return field.name if field.name.isidentifier() else "value"


def _cast(field: Field, natural: Array, value: object) -> Array:
    if natural.dtype.kind not in "biuf":
        raise refusal(field, f"got {_kind(natural)}, expected {field.dtype}")
    return _to_float(field, natural) if "float" in field.dtype else _to_whole(field, natural, value)


def _kind(array: Array) -> str:
    """What an array of non-numbers holds, in a caller's words."""
    if array.dtype.kind != "O":
        return {"U": "text", "T": "text", "S": "bytes"}.get(array.dtype.kind, array.dtype.name)
    strange = (type(item).__name__ for item in array.flat if not isinstance(item, int | float))
    return next(strange, "a number of more than 64 bits")


def _to_float(field: Field, natural: Array) -> Array:
    with np.errstate(over="ignore"):
        if field.dtype == "bfloat16":
            cast: Array = round_to_bfloat16(natural.astype(np.float32))
            seen: Array = widen(cast)
        else:
            seen = cast = natural.astype(field.dtype)
    if not np.isfinite(seen).all() and np.any(np.isinf(seen) & np.isfinite(natural)):
        raise refusal(field, f"a value is beyond the range of {field.dtype}")
    return cast


def _to_whole(field: Field, natural: Array, value: object) -> Array:
    low, high = (0, 1) if field.dtype == "bool" else (np.iinfo(field.dtype).min, np.iinfo(field.dtype).max)
    if natural.dtype.kind == "f" and not np.array_equal(natural, np.trunc(np.where(np.isfinite(natural), natural, 0))):
        raise refusal(field, f"got a fraction, infinity or NaN, expected {field.dtype}")
    natural = _exact(natural, value)
    if natural.size and not low <= int(natural.min()) <= int(natural.max()) <= high:
        raise refusal(field, f"a value is beyond {low} to {high}, the range of {field.dtype}")
    return natural.astype(field.dtype)


def _exact(natural: Array, value: object) -> Array:
    """Whole numbers of mixed kinds are floats to numpy, which beyond 2**53 are no longer what the caller wrote."""
    if natural.dtype.kind != "f" or not natural.size or np.abs(natural).max() < 2**53:
        return natural
    return np.array([int(item) for item in np.asarray(value, object).flat], object).reshape(natural.shape)


def _encode_rows(field: Field, rows: list[Any] | tuple[Any, ...], tensor: tensor_pb2.Tensor) -> None:
    """Rows of different length back to back; rows of one length as a regular array."""
    arrays = [_numbers(field, _plain(field, row)) for row in rows]
    rests = {array.shape[1:] for array in arrays if array.ndim}
    if not arrays or len(rests) != 1 or not all(array.ndim for array in arrays):
        raise refusal(field, "expected a list of rows, each a list that differs from the others in length only")
    lengths = [len(array) for array in arrays]
    encode_numbers(np.concatenate(arrays), field.dtype, tensor)
    tensor.shape[:] = [len(arrays), max(lengths), *rests.pop()]
    tensor.row_lengths[:] = lengths if len(set(lengths)) > 1 else []


def _encode_items(
    field: Field, value: object, to_bytes: Callable[[Field, object], bytes], tensor: tensor_pb2.Tensor
) -> None:
    plain = _plain(field, value)
    if isinstance(plain, np.ndarray):
        plain = plain.tolist()
    shape = _shape(field, plain)
    items = [to_bytes(field, item) for item in _leaves(plain)]
    encode_items(items, shape or (() if field.shared else (1,)), field.dtype, tensor)


def _shape(field: Field, value: object, depth: int = MAX_DEPTH) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        return ()
    if depth == 0:
        raise refusal(field, f"lists are nested more than {MAX_DEPTH} deep")
    inner = {_shape(field, item, depth - 1) for item in value}
    if len(inner) > 1:
        raise refusal(field, "rows differ in shape; expected a regular list")
    return (len(value), *(inner.pop() if inner else ()))


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _text(field: Field, item: object) -> bytes:
    if not isinstance(item, str):
        raise refusal(field, f"got {type(item).__name__}, expected str")
    try:
        return item.encode()
    except UnicodeEncodeError as error:
        raise refusal(field, "got a lone surrogate, expected Unicode text") from error


def _file(field: Field, item: object) -> bytes:
    """Bytes as they are, or the content of the file at a path."""
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    if not isinstance(item, os.PathLike):
        raise refusal(field, f"got {type(item).__name__}, expected the bytes of a file, or a pathlib.Path")
    try:
        return Path(item).read_bytes()
    except OSError as error:
        raise refusal(field, f"the file cannot be read: {error.strerror}") from error
