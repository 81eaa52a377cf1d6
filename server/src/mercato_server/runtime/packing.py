"""Batches and their results as bytes in shared memory: arrays side by side, then a JSON head that says where.

Reading copies: nothing that is read changes any more, whatever the other side does with the memory.
"""

import json
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from mercato_server.contract.batch import Array, BatchResult, JoinedBatch
from mercato_server.contract.fields import numpy_dtype

RESERVED = 64
"""Bytes at the beginning of the memory that are not packed into; they hold marks."""

_ALIGNMENT = 64

_NUMBERS = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "bfloat16", "float32", "float64",
)  # fmt: skip
_DTYPES = {name: numpy_dtype(name) for name in _NUMBERS}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_LENGTHS = np.dtype(np.int64)

_to_json = json.JSONEncoder(separators=(",", ":"), default=str).encode
_from_json = json.JSONDecoder().decode
_NOTHING: Mapping[str, Any] = MappingProxyType({})

# A plugin's text may hold lone surrogates; what answers callers decides about them.
_CODING = ("utf-8", "surrogatepass")


class Unpackable(TypeError):
    """An array that is neither of numbers nor of strings nor of bytes; the text names its field."""


class Packed:
    """What is to be written: arrays and blobs with their places, and the head behind them."""

    __slots__ = ("_head", "_parts", "end", "head_at")

    def __init__(self, head: Mapping[str, Any], parts: Sequence[tuple[int, Array | bytes]], end: int) -> None:
        self._parts = parts
        self._head = _to_json(head).encode()
        self.head_at = end
        self.end = end + len(self._head)

    def write(self, memory: memoryview) -> None:
        """Write everything to its place; `memory` has at least `end` bytes."""
        for offset, part in self._parts:
            if isinstance(part, bytes):
                memory[offset : offset + len(part)] = part
            else:
                np.ndarray(part.shape, part.dtype, memory, offset)[...] = part
        memory[self.head_at : self.end] = self._head


def pack(head: Mapping[str, Any]) -> Packed:
    """JSON without arrays."""
    return Packed(head, (), RESERVED)


def pack_batch(batch: JoinedBatch) -> Packed:
    """A batch, for `unpack_batch`. What is empty, as most of it mostly is, is left out."""
    writer = _Writer()
    head: dict[str, Any] = {"rows": batch.rows, "deadline": batch.deadline, "inputs": writer.arrays(batch.inputs)}
    if batch.lengths:
        head["lengths"] = writer.arrays(batch.lengths)
    if batch.present:
        head["present"] = writer.arrays(batch.present)
    if batch.parameters:
        columns = {name: value for name, value in batch.parameters.items() if isinstance(value, np.ndarray)}
        head["parameters"] = {name: value for name, value in batch.parameters.items() if name not in columns}
        head["per_row"] = writer.arrays(columns)
    return Packed(head, writer.parts, writer.end)


def unpack_batch(view: memoryview, head: bytes) -> JoinedBatch:
    """The batch that `pack_batch` wrote."""
    facts, reader = _from_json(head.decode()), _Reader(view)
    return JoinedBatch(
        inputs=reader.arrays(facts["inputs"]),
        rows=facts["rows"],
        parameters={**facts.get("parameters", _NOTHING), **reader.arrays(facts.get("per_row", _NOTHING))},
        lengths=reader.arrays(facts.get("lengths", _NOTHING)),
        present=reader.arrays(facts.get("present", _NOTHING)),
        deadline=facts["deadline"],
    )


def pack_result(result: BatchResult) -> Packed:
    """A result, for `unpack_result`. Raises Unpackable for an output that no message can hold."""
    writer = _Writer()
    head: dict[str, Any] = {
        "outputs": writer.arrays(result.outputs),
        "pre_ns": result.pre_ns,
        "compute_ns": result.compute_ns,
        "post_ns": result.post_ns,
        "padding": float(result.padding),
        "provider": result.provider,
    }
    if result.rejected:
        head["rejected"] = [[int(row), str(field), str(why)] for row, (field, why) in result.rejected.items()]
    if result.truncated:
        head["truncated"] = {name: [int(row) for row in rows] for name, rows in result.truncated.items()}
    return Packed(head, writer.parts, writer.end)


def unpack_result(view: memoryview, head: bytes) -> BatchResult:
    """The result that `pack_result` wrote. Raises one of Python's own errors for what it did not write."""
    facts = _from_json(head.decode())
    facts["outputs"] = _Reader(view).arrays(facts["outputs"])
    if rejected := facts.get("rejected"):
        facts["rejected"] = {row: (field, why) for row, field, why in rejected}
    if truncated := facts.get("truncated"):
        facts["truncated"] = {name: frozenset(rows) for name, rows in truncated.items()}
    return BatchResult(**facts)


class _Writer:
    """Gives arrays their places, each on a boundary that every type of number may lie on."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, Array | bytes]] = []
        self.end = RESERVED

    def arrays(self, arrays: Mapping[str, Array]) -> dict[str, list[Any]]:
        return {name: self.array(name, array) for name, array in arrays.items()}

    def array(self, name: str, array: Array) -> list[Any]:
        """Where and what it is: type, shape and place, for items the place of their lengths and that of their bytes."""
        if (number := _NAMES.get(array.dtype)) is not None:
            return [number, array.shape, self._place(array, array.nbytes)]
        items = array.ravel().tolist()
        kinds = set(map(type, items))
        if all(issubclass(kind, str) for kind in kinds):
            kind, encoded = "string", [item.encode(*_CODING) for item in items]
        elif all(issubclass(kind, bytes) for kind in kinds):
            kind, encoded = "bytes", items
        else:
            strange = sorted(kind.__name__ for kind in kinds if not issubclass(kind, str | bytes))
            raise Unpackable(f"{name!r} holds {', '.join(strange) or 'str and bytes'}, expected str or bytes")
        lengths = np.fromiter(map(len, encoded), _LENGTHS, len(encoded))
        blob = b"".join(encoded)
        return [kind, array.shape, self._place(lengths, lengths.nbytes), self._place(blob, len(blob)), len(blob)]

    def _place(self, part: Array | bytes, size: int) -> int:
        offset = -(-self.end // _ALIGNMENT) * _ALIGNMENT
        self.parts.append((offset, part))
        self.end = offset + size
        return offset


class _Reader:
    """Copies arrays out of memory; numpy refuses those that do not lie inside it."""

    def __init__(self, view: memoryview) -> None:
        self._view = view

    def arrays(self, places: Mapping[str, Sequence[Any]]) -> dict[str, Array]:
        return {name: self._array(*place) for name, place in places.items()}

    def _array(self, kind: str, shape: Sequence[int], offset: int, blob_at: int = 0, size: int = 0) -> Array:
        count = math.prod(shape)
        if min(shape, default=0) < 0 or min(offset, blob_at, size) < 0:
            raise ValueError("a place is negative")
        if kind in _DTYPES:
            return self._numbers(_DTYPES[kind], count, offset).reshape(shape).copy()
        # Before the array is made: what lies in the memory bounds it.
        lengths = self._numbers(_LENGTHS, count, offset).tolist()
        array = np.empty(shape, object)
        array.ravel()[:] = _items(kind, bytes(self._view[blob_at : blob_at + size]), lengths)
        return array

    def _numbers(self, dtype: np.dtype[Any], count: int, offset: int) -> Array:
        """Numbers as they lie in the memory. numpy itself takes a negative place, which is why none gets here."""
        return np.frombuffer(self._view, dtype, count, offset) if count else np.empty(0, dtype)


def _items(kind: str, blob: bytes, lengths: Sequence[int]) -> list[Any]:
    if kind not in ("string", "bytes"):
        raise ValueError(f"there is no kind {kind!r}")
    items, start = [], 0
    for length in lengths:
        items.append(blob[start : start + length])
        start += length
    if start != len(blob):
        raise ValueError("the lengths of the items do not add up")
    return [item.decode(*_CODING) for item in items] if kind == "string" else items
