"""What a row of a request is known by in a cache: equal for equal rows of equal requests, and for no others."""

from collections.abc import Iterable
from hashlib import blake2b
from itertools import repeat

import numpy as np
import numpy.typing as npt

from mercato_server.contract.batch import Array
from mercato_server.serving.batch import PerRow
from mercato_server.serving.request import Request

_KEY_BYTES = 16
_SIZE_BYTES = 8
# What is longer stands in a key by its digest, which is made once where all rows share it: a short history costs less
# in every key than a digest of its own would.
_PLAIN_BYTES = 1024


def row_keys(model: str, digest: str, request: Request) -> list[bytes]:
    """The key of each row, 16 bytes long.

    It covers the model, the wanted outputs, the parameters with their types, and of every input name, dtype, shape,
    presence and bytes. Neither the order of names nor the width to which a ragged input is padded makes a difference.
    """
    names = sorted(request.inputs)
    kinds = [_kind(request, name) for name in names]
    head = repr((model, digest, _outputs(request), _parameters(request), kinds)).encode()
    start = blake2b(_sized(head), digest_size=_KEY_BYTES)
    keys = []
    for row in _encoded(request, names):
        key = start.copy()
        key.update(row)
        keys.append(key.digest())
    return keys


def _outputs(request: Request) -> list[str] | None:
    return sorted(set(request.outputs)) if request.outputs else None


def _parameters(request: Request) -> list[tuple[str, str]]:
    """Names and values; `repr` tells 1, 1.0, True and "1" apart."""
    return [
        (name, repr(value.value if isinstance(value, PerRow) else value))
        for name, value in sorted(request.parameters.items())
    ]


def _kind(request: Request, name: str) -> tuple[object, ...]:
    """What tells how the bytes of an input's row are to be read."""
    array, is_ragged = request.inputs[name], name in request.lengths
    return name, _dtype(array), array.shape[1 + is_ragged :], is_ragged, name in request.present


def _dtype(array: Array) -> str:
    dtype = array.dtype
    return dtype.name if dtype.kind == "V" else dtype.str  # bfloat16 calls itself void otherwise


def _encoded(request: Request, names: list[str]) -> Iterable[bytes]:
    """The values of each row; every part has the size that its kind tells, or tells it itself."""
    columns = [_values(request.inputs[name], request.lengths.get(name)) for name in names]
    columns += [_numbers(request.present[name]) for name in names if name in request.present]
    return columns[0] if len(columns) == 1 else map(b"".join, zip(*columns, strict=True))


def _values(array: Array, lengths: npt.NDArray[np.int64] | None) -> Iterable[bytes]:
    """One row after the other, so that no second copy of all is held; what all rows share is read once."""
    if _is_shared(array, lengths):
        return repeat(next(iter(_values(array[:1], None if lengths is None else lengths[:1]))), len(array))
    if lengths is not None:
        return (_sized(row[:length].tobytes()) for row, length in zip(array, lengths.tolist(), strict=True))
    return _items(array) if array.dtype == object else _numbers(array)


def _is_shared(array: Array, lengths: npt.NDArray[np.int64] | None) -> bool:
    return len(array) > 1 and not array.strides[0] and (lengths is None or bool((lengths == lengths[0]).all()))


def _numbers(array: Array) -> Iterable[bytes]:
    data = array.tobytes()
    size = len(data) // len(array)
    if not size:
        return repeat(b"", len(array))
    rows = (data[start : start + size] for start in range(0, len(data), size))
    return map(_digest, rows) if size > _PLAIN_BYTES else rows


def _items(array: Array) -> Iterable[bytes]:
    if array.ndim == 1:
        return map(_item, array.tolist())
    return (_joined(b"".join(map(_item, row.ravel().tolist()))) for row in array)


def _joined(items: bytes) -> bytes:
    return items if len(items) <= _PLAIN_BYTES else b"d" + _digest(items)  # no item begins like that


def _item(item: str | bytes) -> bytes:
    return b"s" + _sized(item.encode()) if isinstance(item, str) else b"b" + _sized(item)


def _sized(data: bytes) -> bytes:
    """Its size, which tells whether itself or its digest follows."""
    size = len(data)
    return size.to_bytes(_SIZE_BYTES, "little") + (data if size <= _PLAIN_BYTES else _digest(data))


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_KEY_BYTES).digest()
