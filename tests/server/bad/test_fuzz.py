"""Requests that nobody thought of: only statuses of the contract come back, and they tell nothing of the inside."""

import ctypes
import os
import tracemalloc
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError
from grpc import StatusCode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.corpus import requests as seeds
from tests.fuzz.decode import MAX_FIELDS, decode
from tests.server.bad.fuzz import GET, LIST, PREDICT, STREAM, requests
from tests.server.bad.messages import MILLION, NAME, nested
from tests.server.bad.test_messages import assert_discreet, in_band
from tests.server.calls import Failed, Wire, failed

from mercato.v1 import prediction_pb2
from mercato_server.rpc.prediction import parse

ALWAYS = {StatusCode.OK, StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND, StatusCode.RESOURCE_EXHAUSTED}
# `make fuzz` asks for other requests each time; the suite sends the same ones.
RANDOM = "RANDOM_SEEDS" in os.environ
ONCE = settings(
    derandomize=not RANDOM, deadline=None, database=None, max_examples=200, suppress_health_check=list(HealthCheck)
)


def asked_for(message: prediction_pb2.PredictRequest) -> dict[StatusCode, str]:
    """Codes beyond `ALWAYS` that the request itself asks for, with their reasons."""
    found = {}
    if message.HasField("timeout"):
        found[StatusCode.DEADLINE_EXCEEDED] = "DEADLINE_EXPIRED"
    if message.schema_fingerprint:
        found[StatusCode.FAILED_PRECONDITION] = "SCHEMA_CHANGED"
    return found


def check(got: Failed, allowed: dict[StatusCode, str]) -> None:
    assert got.code in ALWAYS or allowed.get(got.code) == got.reason, got.everything
    assert got.reason and got.text
    assert_discreet(got.everything)


def parsed(kind: Any, data: bytes) -> Any:
    """The message, empty where the bytes are none."""
    try:
        return kind.FromString(data)
    except DecodeError:
        return kind()


@ONCE
@given(call=st.sampled_from([PREDICT, PREDICT, GET, LIST]).flatmap(lambda m: st.tuples(st.just(m), requests(m))))
def test_a_call_gets_a_status_of_the_contract(wire: Wire, call: tuple[str, bytes]) -> None:
    method, data = call
    try:
        wire.channel.unary_unary(method)(data, timeout=20)
    except grpc.RpcError as error:
        message = parsed(prediction_pb2.PredictRequest, data if method == PREDICT else b"")
        check(failed(error), asked_for(message))


@ONCE
@given(sent=st.lists(requests(STREAM), min_size=1, max_size=4))
def test_a_stream_answers_every_message_and_ends_well(wire: Wire, sent: list[bytes]) -> None:
    messages = [parsed(prediction_pb2.PredictStreamRequest, data) for data in sent]
    cancels = [message for message in messages if message.WhichOneof("kind") == "cancel_id"]
    allowed = {StatusCode.CANCELLED: "CANCELLED"} if cancels else {}
    for message in messages:
        allowed |= asked_for(message.predict)
    answers = list(wire.channel.stream_stream(STREAM)(iter(sent), timeout=20))
    assert len(answers) == len(sent) - len(cancels)
    for answer in map(prediction_pb2.PredictStreamResponse.FromString, answers):
        assert answer.last
        if answer.HasField("error"):
            check(in_band(answer), allowed)


# --- memory -----------------------------------------------------------------------------------------------------------

# Python's own: arrays and strings that views and texts of the request become, and the text of a refusal.
SHARE, FIXED = 16, 128 * 1024


@ONCE
@given(data=requests(PREDICT))
def test_decoding_allocates_no_more_than_a_share_of_the_bytes(data: bytes) -> None:
    check_allocation(data)


def test_decoding_the_table_allocates_no_more_than_a_share_of_the_bytes() -> None:
    for data in seeds():
        if len(data) < MILLION:  # tracing is slow, and what is longer repeats itself
            check_allocation(data)


def check_allocation(data: bytes) -> None:
    decode(data)
    tracemalloc.start()
    try:
        decode(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= SHARE * len(data) + FIXED, f"{peak} bytes for {len(data)}"


class Blocks(ctypes.Structure):
    """What glibc's mallinfo2 gives."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def in_use() -> int:
    """Bytes that this process has taken from malloc, which is where parsed messages lie."""
    call = ctypes.CDLL(None).mallinfo2
    call.restype = Blocks
    now = call()
    return int(now.uordblks + now.hblkhd)


# A field costs at most this many bytes beside its content, however short it was on the wire; parameters cost the most.
PER_FIELD = 160
AT_THE_LIMIT = {
    "inputs": NAME + b"\x12\0" * 65_000,
    "tensors": NAME + b"\x12\2\x12\0" * 32_000,
    "items": NAME + nested(2, 2, content=b"\x22\0" * 65_000),
    "sizes": NAME + nested(2, 2, 2, content=b"\1" * 65_000),
    "outputs": NAME + b"\x1a\0" * 65_000,
    "parameters": NAME + b"".join(nested(4, 1, content=b"%d" % number) for number in range(65_000)),
    "unknown fields": NAME + b"\x60\1" * 65_000,
    "large": NAME + nested(2, content=nested(1, content=b"x") + nested(2, 3, content=bytes(10 * MILLION))),
}


@pytest.mark.parametrize("name", AT_THE_LIMIT)
def test_a_parsed_message_holds_no_more_than_its_fields_cost(name: str) -> None:
    data = AT_THE_LIMIT[name]
    before = in_use()
    message = parse(data, MAX_FIELDS)
    held = in_use() - before
    assert message.model.name
    assert held <= PER_FIELD * min(MAX_FIELDS, len(data) // 2) + 2 * len(data)
