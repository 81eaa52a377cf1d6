"""Requests made from the protobuf descriptors: valid, at the edges, and with bytes changed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st
from tests.server.bad.messages import GOOD, nested, varint
from tests.server.calls import PRICING, SEMANTIC, pricing, texts

from mercato.v1 import catalog_pb2, prediction_pb2, tensor_pb2

PREDICT = "/mercato.v1.PredictionService/Predict"
STREAM = "/mercato.v1.PredictionService/PredictStream"
GET = "/mercato.v1.CatalogService/GetModel"
LIST = "/mercato.v1.CatalogService/ListModels"
KINDS: Mapping[str, type[Message]] = {
    PREDICT: prediction_pb2.PredictRequest,
    STREAM: prediction_pb2.PredictStreamRequest,
    GET: catalog_pb2.GetModelRequest,
    LIST: catalog_pb2.ListModelsRequest,
}

Strategy = st.SearchStrategy[Any]

# Without surrogates: protobuf writes none, and bytes that are no text come from `changed`.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
DTYPES = st.sampled_from([*tensor_pb2.DataType.values(), 16, 999, -1])


def whole(bits: int, *, signed: bool) -> Strategy:
    """Numbers of that many bits, most of them small or at an end."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.sampled_from([0, 1, low, high]) | st.integers(max(low, -1), 65) | st.integers(low, high)


_F = FieldDescriptor
SCALARS: Mapping[int, Strategy] = {
    _F.TYPE_DOUBLE: st.floats(), _F.TYPE_FLOAT: st.floats(width=32), _F.TYPE_BOOL: st.booleans(),
    _F.TYPE_INT32: whole(32, signed=True), _F.TYPE_INT64: whole(64, signed=True), _F.TYPE_ENUM: DTYPES,
    _F.TYPE_UINT32: whole(32, signed=False), _F.TYPE_UINT64: whole(64, signed=False),
    _F.TYPE_STRING: TEXT, _F.TYPE_BYTES: st.binary(max_size=64),
}  # fmt: skip


def mostly(known: Sequence[Any], rest: Strategy) -> Strategy:
    """Known values three times out of four."""
    usual = st.sampled_from(known)
    return st.one_of(usual, usual, usual, rest)


# What random values would never hit: names that exist, and sizes that fit.
KNOWN: Mapping[str, Strategy] = {
    "mercato.v1.ModelRef.name": mostly([PRICING, PRICING, SEMANTIC, "no.model", ""], TEXT),
    "mercato.v1.ModelRef.version": mostly([1, 1, 1, 2, -1], whole(64, signed=True)),
    "mercato.v1.NamedTensor.name": mostly(["x", "x", "x", "text", "y", ""], TEXT),
    "mercato.v1.Tensor.dtype": mostly([tensor_pb2.DATA_TYPE_FP32, tensor_pb2.DATA_TYPE_STRING], DTYPES),
    "mercato.v1.Tensor.shape": mostly([1, 1, 2, 64], whole(64, signed=True)),
    "mercato.v1.Tensor.data": mostly([b"\0\0\x80\x3f", bytes(8), b""], st.binary(max_size=64)),
    "mercato.v1.PredictRequest.outputs": mostly(["y", "embedding", "x"], TEXT),
    "mercato.v1.PredictRequest.request_id": mostly(["a", "b", "c", ""], TEXT),
    "mercato.v1.PredictStreamRequest.cancel_id": mostly(["a", "b", ""], TEXT),
}


def messages(kind: Any) -> Strategy:
    """Messages of a descriptor's type with up to three of their fields set."""
    made: Callable[..., Message] = message_factory.GetMessageClass(kind)
    fields = {item.name: values(item) for item in kind.fields}
    if not fields:
        return st.just(made())
    chosen = st.sets(st.sampled_from(sorted(fields)), max_size=3)
    given = chosen.flatmap(lambda names: st.fixed_dictionaries({name: fields[name] for name in sorted(names)}))
    return given.map(lambda values: made(**values))


def values(item: FieldDescriptor) -> Strategy:
    """Values of one field as its message's constructor takes them."""
    if item.message_type is not None and item.message_type.GetOptions().map_entry:
        key, value = (item.message_type.fields_by_name[name] for name in ("key", "value"))
        return st.dictionaries(one(key), one(value), max_size=3)
    return st.lists(one(item), max_size=4) if item.is_repeated else one(item)


def one(item: FieldDescriptor) -> Strategy:
    """One value."""
    if item.message_type is not None:
        return messages(item.message_type)
    return KNOWN.get(item.full_name, SCALARS[item.type])


def requests(method: str) -> Strategy:
    """Bytes for a method: a message of its type, a good one with another merged into it, or either with changes."""
    start = st.sampled_from(GOOD_ONES.get(method, [b""]))
    random = messages(KINDS[method].DESCRIPTOR).map(lambda message: message.SerializeToString())
    plain = st.tuples(start, random).map(b"".join)
    return plain | plain.flatmap(changed)


_PREDICTS = [GOOD, pricing([[1.0], [2.0]], want_receipt=True).SerializeToString(), texts(b"shoes").SerializeToString()]
GOOD_ONES = {
    PREDICT: [b"", *_PREDICTS],
    STREAM: [b"", *(nested(1, content=data + nested(5, content=b"a")) for data in _PREDICTS)],
    GET: [b"", nested(1, 1, content=PRICING.encode())],
}


def changed(data: bytes) -> Strategy:
    """The bytes after one to three changes."""

    def apply(changes: list[tuple[Callable[[bytes, int, bytes], bytes], float, bytes]]) -> bytes:
        now = data
        for change, where, more in changes:
            now = change(now, round(where * len(now)), more)
        return now

    more = st.sampled_from([varint(2**63), b"\xff" * 10, b"\x63", b"\x64", b"\x12\0", b"\x0a\x7f"]) | st.binary(
        max_size=8
    )
    change = st.tuples(st.sampled_from(CHANGES), st.floats(0, 1), more)
    return st.lists(change, min_size=1, max_size=3).map(apply)


CHANGES: list[Callable[[bytes, int, bytes], bytes]] = [
    lambda data, at, more: data[:at],
    lambda data, at, more: data[at:],
    lambda data, at, more: data[:at] + more + data[at:],
    lambda data, at, more: data[:at] + more + data[at + len(more) :],
    lambda data, at, more: data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :] if at < len(data) else data,
    lambda data, at, more: data + data[at:] * 3,
]
