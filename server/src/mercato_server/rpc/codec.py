"""Wire tensors <-> numpy arrays, checked against one model's signature before anything is allocated."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from mercato.v1 import tensor_pb2
from mercato_plugin import Field, Int, Label, ModelSpec, Tensor
from mercato_plugin.fields import BATCH, FLOATING
from mercato_server.contract.batch import Array
from mercato_server.contract.fields import answer_fields, numpy_dtype, shared_row
from mercato_server.errors import InvalidRequest, Violation
from mercato_server.rpc.items import decode_items, encode_items

if sys.byteorder != "little":
    raise ImportError("the wire format is little-endian; this server runs on little-endian machines only")

Lengths = npt.NDArray[np.int64]

# A message may hold thousands of wrong names; nobody reads more than these.
MAX_FAULTS = 16

# A padded array may be this large, or this many times the bytes it was made of, whichever is more.
PADDED_BYTES = 16 * 1024 * 1024
PADDED_SHARE = 16

# What an answer takes beside its values, generously: names, shapes, receipt, ids; and a string beside its bytes.
_HEAD_BYTES = 4096
_ITEM_BYTES = 6

NAMES = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "uint8": "UINT8",
    "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "float16": "FP16", "bfloat16": "BF16",
    "float32": "FP32", "float64": "FP64", "string": "STRING", "bytes": "BYTES",
}  # fmt: skip
WIRE = {name: tensor_pb2.DataType.Value(f"DATA_TYPE_{wire}") for name, wire in NAMES.items()}
SHOWN: dict[int, str] = {number: name for name, number in WIRE.items()}
NUMPY = {name: numpy_dtype(name) for name in NAMES if name not in ("string", "bytes")}


class Bad(Exception):
    """One field does not fit; the text says what was got and what was expected."""


class FieldCodec:
    """Decodes and encodes one named field of a signature."""

    def __init__(self, name: str, item: Field, max_rows: int) -> None:
        self.name = name
        self.item = item
        self.dtype = WIRE[item.dtype_name]
        self._axes = _axes(item, max_rows)
        self._checks = _value_checks(item)
        self._numpy = NUMPY.get(item.dtype_name)
        self._ragged = isinstance(item, Tensor) and item.ragged

    def decode(self, tensor: tensor_pb2.Tensor) -> tuple[Array, Lengths | None, int]:
        """The array, the row lengths of a ragged field (of a shared one its own), and how many rows were cut.

        Raises Bad.
        """
        if tensor.dtype != self.dtype:
            raise Bad(f"got dtype {_shown(tensor.dtype)}, expected {self.item.dtype_name}")
        shape = tuple(tensor.shape)
        self._check_shape(shape)
        if tensor.row_lengths and (self.item.shared or not self._ragged):
            raise Bad("row_lengths are for inputs of ragged rows only")
        if self._numpy is None:
            array, truncated = decode_items(self.item, tensor, shape, Bad)
            return array, None, truncated
        if not self._ragged:
            return self._decode_numbers(tensor, shape), None, 0
        array, lengths = (self._decode_shared if self.item.shared else self._decode_ragged)(tensor, shape)
        return array, lengths, 0

    def encode(self, array: Array) -> tensor_pb2.Tensor:
        """The wire form of an output; one copy."""
        if self._numpy is None:
            return tensor_pb2.Tensor(dtype=self.dtype, shape=array.shape, items=encode_items(self.item, array))
        return tensor_pb2.Tensor(dtype=self.dtype, shape=array.shape, data=array.tobytes())

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if len(shape) != len(self._axes):
            raise Bad(f"got rank {len(shape)}, expected {len(self._axes)}: {self._wanted()}")
        for size, (_, least, most) in zip(shape, self._axes, strict=True):
            if not least <= size <= most:
                raise Bad(f"got shape {list(shape)}, expected {self._wanted()}")

    def _wanted(self) -> str:
        parts = [f"{name} ({least} to {most})" if name else str(most) for name, least, most in self._axes]
        return f"[{', '.join(parts)}]"

    def _decode_numbers(self, tensor: tensor_pb2.Tensor, shape: tuple[int, ...]) -> Array:
        array = self._from_bytes(tensor, math.prod(shape)).reshape(shape)
        for check in self._checks:
            check(array)
        return array

    def _from_bytes(self, tensor: tensor_pb2.Tensor, count: int) -> Array:
        assert self._numpy is not None
        data = tensor.data  # read once: each access copies
        wanted = count * self._numpy.itemsize
        if len(data) != wanted or tensor.items:
            raise Bad(f"got {len(data)} bytes and {len(tensor.items)} items, expected {wanted} bytes and no items")
        if self._numpy == np.bool_ and data.translate(None, b"\0\1"):
            raise Bad("got bytes other than 0 and 1 in a bool tensor")
        return np.frombuffer(data, self._numpy)

    def _decode_shared(self, tensor: tensor_pb2.Tensor, shape: tuple[int, ...]) -> tuple[Array, Lengths]:
        assert isinstance(self.item, Tensor)
        return shared_row(self.item, self._decode_numbers(tensor, shape)), np.array(shape[:1], np.int64)

    def _decode_ragged(self, tensor: tensor_pb2.Tensor, shape: tuple[int, ...]) -> tuple[Array, Lengths]:
        lengths = np.fromiter(tensor.row_lengths, np.int64) if tensor.row_lengths else np.full(shape[0], shape[1])
        if len(lengths) != shape[0] or lengths.min() < 0 or lengths.max() != shape[1]:
            raise Bad(f"got {len(lengths)} row_lengths, expected {shape[0]} from 0 to {shape[1]}, its largest")
        inner = shape[2:]
        values = self._from_bytes(tensor, int(lengths.sum()) * math.prod(inner)).reshape(-1, *inner)
        for check in self._checks:
            check(values)
        assert isinstance(self.item, Tensor)
        _check_padding(math.prod(shape) * values.itemsize, values.nbytes)
        padded = np.full(shape, self.item.pad, values.dtype)
        padded[np.arange(shape[1]) < lengths[:, None]] = values
        return padded, lengths


def _axes(item: Field, max_rows: int) -> list[tuple[str, int, int]]:
    """Name, least and largest size of every axis; a fixed one has no name. A shared ragged value may be empty."""
    row: tuple[Any, ...] = item.row_axes
    axes = [("", axis, axis) if isinstance(axis, int) else (axis.name, 1, axis.max) for axis in row]
    if not item.shared:
        return [(BATCH, 1, max_rows), *axes]
    if isinstance(item, Tensor) and item.ragged:
        axes[0] = (axes[0][0], 0, axes[0][2])
    return axes


def _check_padding(padded: int, sent: int) -> None:
    """One long row among empty ones must not make a small message hold a large array."""
    if padded > max(PADDED_BYTES, PADDED_SHARE * sent):
        raise Bad(
            f"got {sent} bytes that padding to the longest row would make {padded}, expected at most {PADDED_BYTES} "
            f"or {PADDED_SHARE} times what was sent; send rows of similar length together"
        )


def _value_checks(item: Field) -> list[Callable[[Array], None]]:
    checks: list[Callable[[Array], None]] = []
    if isinstance(item, Tensor) and item.finite and item.dtype in FLOATING:
        checks.append(_check_finite)
    if item.low is not None or item.high is not None:
        checks.append(lambda array: _check_bounds(array, item.low, item.high))
    return checks


def _check_finite(array: Array) -> None:
    if not np.isfinite(array).all():
        raise Bad("got NaN or infinity, expected finite numbers")


def _check_bounds(array: Array, low: float | None, high: float | None) -> None:
    if array.size == 0:
        return
    # `not` around the comparison, so that NaN fails it too
    if (low is not None and not array.min() >= low) or (high is not None and not array.max() <= high):
        raise Bad(f"got values outside {'-inf' if low is None else low} to {'inf' if high is None else high}")


def _shown(dtype: int) -> str:
    return SHOWN.get(dtype, "unspecified" if dtype == 0 else f"unknown ({dtype})")


class SignatureCodec:
    """All fields of one signature, and the checks between them."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        rows, answered = spec.batch.rows_per_request, answer_fields(spec)
        self.inputs = {name: FieldCodec(name, item, rows) for name, item in spec.inputs.items()}
        self.outputs = {name: FieldCodec(name, item, rows) for name, item in answered.items()}
        self._required = frozenset(name for name, item in spec.inputs.items() if not item.optional)
        self._named_axes = _shared_axis_names(spec)
        self.free_inputs = _free_inputs(spec)
        self._answer_rows = min(rows, _most_ranked(spec) or rows)
        self._answer_row_bytes = _row_bytes(answered.values())

    def decode(self, tensors: Sequence[tensor_pb2.NamedTensor]) -> "Decoded":
        """Every input decoded and checked.

        Raises InvalidRequest with one violation per field at fault, MAX_FAULTS at most.
        """
        decoded = Decoded()
        found = (fault for named in tensors if (fault := self._decode_one(named, decoded)))
        faults = list(islice(found, MAX_FAULTS))
        if len(faults) == MAX_FAULTS:
            raise InvalidRequest(faults, model=self.spec.name)
        given = decoded.arrays.keys() | {fault.field.removeprefix("inputs.") for fault in faults}
        faults.extend(Violation(f"inputs.{name}", "missing") for name in sorted(self._required - given))
        if not faults:
            faults.extend(self._disagreements(decoded))
        if faults:
            raise InvalidRequest(faults, model=self.spec.name)
        return decoded

    def encode(self, outputs: Mapping[str, Array], wanted: Iterable[str]) -> list[tensor_pb2.NamedTensor]:
        """The wanted outputs in their wire form; all of them when none is named."""
        names = tuple(wanted) or self.outputs
        return [tensor_pb2.NamedTensor(name=n, tensor=self.outputs[n].encode(outputs[n])) for n in names]

    def answer_bytes(self, rows: int, k: int | None = None) -> int | None:
        """Most bytes that the outputs of so many rows can take; None when an output has no bound of its own.

        Of ranked rows at most `k` are answered, the largest that the signature allows when it is not given.
        """
        if self._answer_row_bytes is None:
            return None
        most = self._answer_rows if k is None else min(k, self._answer_rows)
        return _HEAD_BYTES + max(1, min(rows, most)) * self._answer_row_bytes

    def check_wanted(self, names: Sequence[str]) -> None:
        """Refuse unknown and repeated output names. Raises InvalidRequest."""
        for name in names:
            if name not in self.outputs:
                text = f"no output {name[:64]!a}; there are {', '.join(self.outputs)}"
                raise InvalidRequest.of("outputs", text, model=self.spec.name)
        if len(set(names)) != len(names):
            raise InvalidRequest.of("outputs", "an output is named twice", model=self.spec.name)

    def _decode_one(self, named: tensor_pb2.NamedTensor, decoded: "Decoded") -> Violation | None:
        name = named.name
        codec = self.inputs.get(name)
        if codec is None:
            known = ", ".join(self.inputs)
            return Violation("inputs", f"no input {name[:64]!a}; expected {known}")
        if name in decoded.arrays:
            return Violation(f"inputs.{name}", "given twice")
        try:
            array, lengths, truncated = codec.decode(named.tensor)
        except Bad as error:
            return Violation(f"inputs.{name}", str(error))
        decoded.arrays[name] = array
        if lengths is not None:
            decoded.lengths[name] = lengths
        if truncated:
            decoded.truncations[name] = truncated
        return None

    def _disagreements(self, decoded: "Decoded") -> list[Violation]:
        """Inputs must agree on the number of rows and on every axis name they share."""
        sizes: dict[str, int] = {}
        faults = []
        for name, axis, position in self._named_axes:
            array = decoded.arrays.get(name)
            if array is not None and sizes.setdefault(axis, array.shape[position]) != array.shape[position]:
                text = f"axis {axis!r} is {array.shape[position]}, but {sizes[axis]} in another input"
                faults.append(Violation(f"inputs.{name}", text))
        decoded.rows = sizes.get("batch", 1)
        return faults


def _most_ranked(spec: ModelSpec) -> int | None:
    """The most rows that a caller may have answered of those that are ranked; None where nothing bounds them."""
    if spec.top_k is None:
        return None
    k = spec.parameters[spec.top_k.k]
    return k.high if isinstance(k, Int) else None


def _row_bytes(outputs: Iterable[Field]) -> int | None:
    """Most bytes of one row of these fields on the wire."""
    total = 0
    for item in outputs:
        cells = 1
        for axis in item.row_axes:
            if isinstance(axis, str):
                return None
            cells *= axis if isinstance(axis, int) else axis.max
        if isinstance(item, Label):
            total += cells * (max(len(name.encode()) for name in item.names) + _ITEM_BYTES)
        elif isinstance(item, Tensor):
            total += cells * NUMPY[item.dtype_name].itemsize
        else:
            return None
    return total


class Decoded:
    """What came out of a request's tensors."""

    __slots__ = ("arrays", "lengths", "rows", "truncations")

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self.lengths: dict[str, Lengths] = {}
        self.truncations: dict[str, int] = {}
        self.rows = 1


def _free_inputs(spec: ModelSpec) -> list[tuple[str, int]]:
    """Inputs whose rows may differ in shape between requests, with the axis from which on they must be equal.

    Joining widens ragged inputs along axis 1, so only the axes behind it count.
    """
    free = []
    for name, item in spec.inputs.items():
        skipped = int(isinstance(item, Tensor) and item.ragged)
        if any(not isinstance(axis, int) for axis in item.row_axes[skipped:]):
            free.append((name, skipped + (not item.shared)))
    return free


def _shared_axis_names(spec: ModelSpec) -> list[tuple[str, str, int]]:
    """(input, axis name, position) of every named axis; lengths of ragged inputs may differ."""
    found = []
    for name, item in spec.inputs.items():
        offset = 0 if item.shared else 1
        if not item.shared:
            found.append((name, "batch", 0))
        for position, axis in enumerate(item.row_axes):
            is_ragged = isinstance(item, Tensor) and item.ragged and position == 0
            if not isinstance(axis, int | str) and not is_ragged:
                found.append((name, axis.name, position + offset))
    return found
