"""What is fuzzed: bytes of a caller to arrays and parameters, in this process, without a server."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError, Message
from tests.server.bad.messages_plugin import Kinds, Table

from mercato.v1 import catalog_pb2, prediction_pb2
from mercato_plugin import ModelSpec, Tensor, Text
from mercato_server.errors import InvalidRequest
from mercato_server.rpc import request_id
from mercato_server.rpc.codec import SignatureCodec
from mercato_server.rpc.defaults import fill_absent
from mercato_server.rpc.parameters import decode_parameters
from mercato_server.rpc.prediction import parse
from mercato_server.rpc.status import to_status
from mercato_server.rpc.wire import FLAT, PREDICT, PREDICT_STREAM, check_field_count

MAX_FIELDS = 65_536
# Fields are counted in messages of more than twice as many bytes: with the server's limit no short input would be.
FEW_FIELDS = 8
READINGS: tuple[tuple[type[Message], Mapping[int, object]], ...] = (
    (prediction_pb2.PredictRequest, PREDICT),
    (prediction_pb2.PredictStreamRequest, PREDICT_STREAM),
    (catalog_pb2.GetModelRequest, FLAT),
)
TEXT = ModelSpec(name="odd.text", inputs={"text": Text()}, outputs={"y": Tensor()})
PRICE = ModelSpec(
    name="pricing.linear",
    inputs={"x": Tensor("float32", ("batch", 1))},
    outputs={"y": Tensor("float32", ("batch", 1))},
)
CODECS = {spec.name: SignatureCodec(spec) for spec in (Kinds.spec, Table.spec, TEXT, PRICE)}
# Rows of the other text model hold the same kind of input.
CODECS["semantic.encoder"] = CODECS[TEXT.name]


@dataclass(frozen=True)
class Outcome:
    """What a request became; `held` is what it keeps in memory until it is answered."""

    refused: bool
    held: Any


def decode(data: bytes) -> Outcome:
    """Every reading of the bytes that the server knows. Raises whatever the server would answer INTERNAL to."""
    for kind, tree in READINGS:
        _read_as(kind(), data, tree)
    try:
        return Outcome(False, _read(data))
    except InvalidRequest as error:
        refusal = error
    assert to_status(refusal, "")[2]
    return Outcome(True, None)


def _read(data: bytes) -> Any:
    message = parse(data, MAX_FIELDS)
    request_id.settled(message.request_id)
    codec = CODECS.get(message.model.name, CODECS[Kinds.spec.name])
    decoded = codec.decode(message.inputs)
    codec.check_wanted(message.outputs)
    values = decode_parameters(codec.spec, message.parameters)
    inputs, present = fill_absent(codec.spec, decoded)
    assert inputs.keys() == codec.spec.inputs.keys()
    assert all(len(array) == decoded.rows for array in inputs.values())
    return message, decoded, values, inputs, present


def _read_as(message: Message, data: bytes, tree: Mapping[int, object]) -> None:
    """Count and parse; where counting meets the end of the bytes too early, parsing must fail as well."""
    cut = False
    try:
        check_field_count(data, tree, FEW_FIELDS)
    except InvalidRequest as error:
        cut = "truncated" in error.message
    try:
        message.ParseFromString(data)
    except DecodeError:
        return
    assert not cut
