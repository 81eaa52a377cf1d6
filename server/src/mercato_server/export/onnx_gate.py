"""The gate of ready ONNX files: what one must look like before any native code reads it."""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx.external_data_helper import uses_external_data

from mercato_server.errors import ExportFailed

MAX_NODES = 100_000
"""Nodes of one file, its local functions written out."""

MAX_CALLS = 32
"""Local functions that call one another in a row."""

MAX_RANK = 64
"""Dimensions of one weight; multiplying thousands of them takes seconds."""

MAX_ELEMENTS = 1 << 40
DOMAINS = ("", "ai.onnx", "ai.onnx.ml")

_DATA_KEYS = {"location", "offset", "length", "checksum"}
_VERSIONS = {
    "": onnx.defs.onnx_opset_version(),
    "ai.onnx": onnx.defs.onnx_opset_version(),
    "ai.onnx.ml": onnx.defs.onnx_ml_opset_version(),
}

FunctionKey = tuple[str, str, str]


class Gate:
    """The rules for one file; every method raises ExportFailed naming model and file."""

    def __init__(self, model: str, file: str) -> None:
        self._file = file
        self._where = f"model {model!r}: file {file!r}"

    def fault(self, what: str) -> ExportFailed:
        """The refusal."""
        return ExportFailed(f"{self._where} {what}")

    def parse(self, content: bytes) -> onnx.ModelProto:
        """The model, its structure checked; of weights in other files only names and numbers are."""
        try:
            proto = onnx.ModelProto.FromString(content)
        except DecodeError as error:
            raise self.fault("is not ONNX") from error
        if not proto.HasField("graph") or len(UnknownFieldSet(proto)):
            raise self.fault("is not ONNX: it has no graph, or bytes that mean nothing")
        self._check_versions(proto)
        self._check_nodes(proto)
        for tensor in _tensors(proto):
            self._check_tensor(tensor)
        return proto

    def data_files(self, proto: onnx.ModelProto) -> list[str]:
        """Names of the files beside this one that hold weights, sorted."""
        names = {_entries(tensor).get("location", "") for tensor in _external(proto)}
        for name in names:
            if name in ("", ".", "..") or not name.isprintable() or "/" in name or "\\" in name:
                raise self.fault(
                    "keeps weights outside its own folder; "
                    "save it with its external data beside it, under a plain file name"
                )
        if self._file in names:
            raise self.fault("names itself as the file of its weights")
        return sorted(names)

    def check_extents(self, proto: onnx.ModelProto, sizes: Mapping[str, int]) -> None:
        """Weights must lie within their files, of which `sizes` has the bytes, and apart from each other."""
        spans: dict[str, set[tuple[int, int]]] = {}
        for tensor in _external(proto):
            name, start, end = self._extent(tensor)
            if end > sizes[name]:
                raise self.fault(
                    f"places weight {_shown(tensor.name)} at bytes {start} to {end} of {name!r}, "
                    f"which has {sizes[name]} bytes"
                )
            if end > start:  # weights that share all their bytes are one weight under several names
                spans.setdefault(name, set()).add((start, end))
        for name, places in spans.items():
            self._refuse_overlap(name, sorted(places))

    def _check_versions(self, proto: onnx.ModelProto) -> None:
        if not 1 <= proto.ir_version <= onnx.IR_VERSION:
            raise self.fault(f"has IR version {proto.ir_version}, expected 1 to {onnx.IR_VERSION}")
        own = {function.domain for function in proto.functions}
        for entry in proto.opset_import:
            known = _VERSIONS.get(entry.domain)
            if known is None and entry.domain not in own:
                raise self.fault(f"uses operators of domain {_shown(entry.domain)}, {_expected()}")
            if known is not None and not 1 <= entry.version <= known:
                domain = entry.domain or "ai.onnx"
                raise self.fault(f"has opset {entry.version} of {domain}, expected 1 to {known}")

    def _check_nodes(self, proto: onnx.ModelProto) -> None:
        bodies = {(f.domain, f.name, f.overload): [_key(node) for node in _nodes(f.node)] for f in proto.functions}
        calls = [_key(node) for node in _nodes(proto.graph.node)]
        for key in (*calls, *(key for body in bodies.values() for key in body)):
            if key[0] not in DOMAINS and key not in bodies:
                raise self.fault(f"has operator {_shown(key[1])} of domain {_shown(key[0])}, {_expected()}")
        count = self._written_out(calls, bodies, {}, 0)
        if count > MAX_NODES:
            raise self.fault(f"has {count} nodes with its functions written out, expected at most {MAX_NODES}")

    def _written_out(
        self,
        calls: Iterable[FunctionKey],
        bodies: Mapping[FunctionKey, list[FunctionKey]],
        sizes: dict[FunctionKey, int],
        depth: int,
    ) -> int:
        """Nodes that the calls become once each local function is replaced by its body, as at loading."""
        if depth > MAX_CALLS:
            raise self.fault(f"has functions that call themselves, or more than {MAX_CALLS} in a row")
        count = 0
        for key in calls:
            if key in bodies and key not in sizes:
                sizes[key] = self._written_out(bodies[key], bodies, sizes, depth + 1)
            count += sizes.get(key, 1)
        return count

    def _check_tensor(self, tensor: onnx.TensorProto) -> None:
        if len(tensor.dims) > MAX_RANK:
            raise self.fault(
                f"has weight {_shown(tensor.name)} of {len(tensor.dims)} dimensions, expected at most {MAX_RANK}"
            )
        if any(dim < 0 for dim in tensor.dims) or math.prod(tensor.dims) > MAX_ELEMENTS:
            dims = list(tensor.dims[:8])
            raise self.fault(f"has weight {_shown(tensor.name)} of shape {dims}, expected at most 2^40 elements")
        if tensor.HasField("raw_data") and len(tensor.raw_data) != self._nbytes(tensor):
            raise self.fault(
                f"has weight {_shown(tensor.name)} with {len(tensor.raw_data)} bytes, "
                f"its shape and type need {self._nbytes(tensor)}"
            )

    def _extent(self, tensor: onnx.TensorProto) -> tuple[str, int, int]:
        """File, first byte and end of a weight."""
        entries, wanted = _entries(tensor), self._nbytes(tensor)
        offset, length = entries.get("offset", "0"), entries.get("length", str(wanted))
        is_number = all(text.isascii() and text.isdigit() and len(text) < 20 for text in (offset, length))
        if not is_number or int(length) != wanted or entries.keys() - _DATA_KEYS:
            raise self.fault(
                f"has weight {_shown(tensor.name)} with external data that does not fit it: expected an offset, "
                f"and a length of {wanted} bytes"
            )
        return entries["location"], int(offset), int(offset) + wanted

    def _refuse_overlap(self, name: str, places: list[tuple[int, int]]) -> None:
        for (_, end), (start, _) in pairwise(places):
            if start < end:
                raise self.fault(f"has weights that overlap at byte {start} of {name!r}")

    def _nbytes(self, tensor: onnx.TensorProto) -> int:
        try:
            return math.ceil(math.prod(tensor.dims) * ir.DataType(tensor.data_type).itemsize)
        except (ValueError, TypeError) as error:  # no such type, or one without a fixed size
            raise self.fault(
                f"has weight {_shown(tensor.name)} of type {tensor.data_type}, which cannot be kept as bytes"
            ) from error


def _parts(message: Message) -> Iterator[Message]:
    """The message and all messages within it; tensors are not opened."""
    waiting = [message]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, onnx.TensorProto):
            continue
        for field, value in part.ListFields():
            if field.message_type is not None:
                waiting.extend((value,) if isinstance(value, Message) else value)


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    return (part for part in _parts(message) if isinstance(part, onnx.TensorProto))


def _external(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor whose values lie in another file, wherever it stands in the model."""
    return (tensor for tensor in _tensors(message) if uses_external_data(tensor))


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes and those of the graphs within them."""
    return (part for node in nodes for part in _parts(node) if isinstance(part, onnx.NodeProto))


def _key(node: onnx.NodeProto) -> FunctionKey:
    return node.domain, node.op_type, node.overload


def _entries(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _expected() -> str:
    return "expected those of ONNX: ai.onnx and ai.onnx.ml"


def _shown(name: str) -> str:
    """A name out of the file, which may be anything."""
    return f"{name[:64]!a}"
