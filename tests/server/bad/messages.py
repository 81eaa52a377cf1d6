"""Bad input as data: what a row is, how its bytes are made, and the rows about protobuf itself (27 to 38)."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf.message import Message
from grpc import StatusCode
from tests.server.bad.messages_plugin import KINDS
from tests.server.calls import PREDICT, PRICING, pricing, request, tensor

from mercato.v1 import prediction_pb2

INVALID = StatusCode.INVALID_ARGUMENT
UNKNOWN_MODEL: dict[str, Any] = {"code": StatusCode.NOT_FOUND, "reason": "MODEL_NOT_FOUND"}
OK: dict[str, Any] = {"code": StatusCode.OK, "reason": ""}
WHOLE = ("request",)
MILLION = 1_000_000

Answer = prediction_pb2.PredictResponse
GROUP, END_GROUP = b"\x63", b"\x64"  # of field 12, which no message has


@dataclass(frozen=True)
class Row:
    """A request by its number in the table, and what the caller gets.

    `fields` are the violations' fields, `says` stands in the text, `facts` in the error's metadata; a request that is
    good after all is checked by `holds`. `shared` tells the server of the reference models from the odd plugin's.
    """

    number: int
    name: str
    request: bytes | Message
    code: StatusCode = INVALID
    reason: str = "INVALID_REQUEST"
    fields: tuple[str, ...] = ()
    says: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    metadata: tuple[tuple[str, str], ...] = ()
    method: str = PREDICT
    shared: bool = True
    holds: Callable[[Answer], bool] = lambda answer: len(answer.outputs) > 0

    @property
    def data(self) -> bytes:
        return self.request if isinstance(self.request, bytes) else self.request.SerializeToString()


def varint(value: int) -> bytes:
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def nested(*numbers: int, content: bytes) -> bytes:
    """`content` as the field with these numbers, outermost first."""
    for number in reversed(numbers):
        content = bytes([number << 3 | 2]) + varint(len(content)) + content
    return content


def x(shape: list[int], data: bytes = b"\0\0\x80\x3f", **facts: Any) -> prediction_pb2.PredictRequest:
    """A request of pricing.linear with this shape and these bytes."""
    return request(PRICING, tensor("x", shape=shape, data=data, **facts))


def kinds(*inputs: Any, **facts: Any) -> prediction_pb2.PredictRequest:
    """A request of the odd plugin: one good row of `x`, and what comes with it."""
    return request(KINDS, tensor("x", shape=[1, 2], data=bytes(8)), *inputs, **facts)


def parameter(value: bool | int | float | str) -> prediction_pb2.ParameterValue:
    """A parameter of the value's own type."""
    kind = {bool: "bool_value", int: "int_value", float: "float_value", str: "string_value"}[type(value)]
    return prediction_pb2.ParameterValue(**{kind: value})  # type: ignore[arg-type]


def first(answer: Answer) -> list[float]:
    """The numbers of the first output."""
    numbers: list[float] = np.frombuffer(answer.outputs[0].tensor.data, np.float32).tolist()
    return numbers


def costs_eight(answer: Answer) -> bool:
    return abs(first(answer)[0] - 8) < 0.01


GOOD = pricing([[4.0]]).SerializeToString()
NAME = nested(1, 1, content=PRICING.encode())
X = nested(2, content=tensor("x").SerializeToString())
ENTRY = nested(4, content=nested(1, content=b"k") + nested(2, content=b"\x10\x05"))
NO_UTF8 = b"\xc3("


def malformed(number: int, name: str, data: bytes, **facts: Any) -> Row:
    return Row(number, name, data, **{"fields": WHOLE, **facts})


def accepted(number: int, name: str, data: bytes | Message, **facts: Any) -> Row:
    return Row(number, name, data, **{**OK, "holds": costs_eight, **facts})


NESTING = [
    accepted(27, "99 groups in each other", GOOD + GROUP * 99 + END_GROUP * 99),
    malformed(27, "101 groups in each other", GOOD + GROUP * 101 + END_GROUP * 101),
    malformed(27, "10 000 groups in each other", GOOD + GROUP * 10_000 + END_GROUP * 10_000),
    malformed(27, "10 000 groups that never end", GOOD + GROUP * 10_000),
    malformed(27, "100 000 groups in each other", GOOD + GROUP * 100_000 + END_GROUP * 100_000),
    accepted(27, "10 000 unknown messages in each other", GOOD + nested(*[12] * 10_000, content=b"")),
]

FLOODS = [
    malformed(28, "2 000 000 empty inputs", NAME + b"\x12\0" * 2 * MILLION),
    malformed(28, "1 000 000 empty outputs", NAME + b"\x1a\0" * MILLION),
    malformed(28, "1 000 000 empty models", b"\x0a\0" * MILLION),
    Row(28, "30 000 empty inputs", NAME + b"\x12\0" * 30_000, fields=("inputs",), says="no input ''"),
    malformed(29, "2 000 000 empty items", NAME + nested(2, 2, content=b"\x22\0" * 2 * MILLION)),
    malformed(29, "1 000 000 packed sizes", NAME + nested(2, 2, 2, content=b"\1" * MILLION)),
    malformed(29, "1 000 000 single sizes", NAME + nested(2, 2, content=b"\x10\1" * MILLION)),
    malformed(29, "1 000 000 row lengths", NAME + nested(2, 2, 5, content=b"\1" * MILLION)),
    Row(29, "60 000 sizes", x([1] * 60_000), fields=("inputs.x",), says="rank 60000"),
    malformed(30, "600 000 parameters of one name", GOOD + ENTRY * 600_000),
    malformed(30, "1 000 000 empty parameters", GOOD + b"\x22\0" * MILLION),
    Row(30, "60 000 parameters of one name", GOOD + ENTRY * 60_000, fields=("parameters",), says="no parameter 'k'"),
    accepted(31, "4 MiB of one unknown field", GOOD + nested(12, content=bytes(4 * 2**20))),
    malformed(31, "2 000 000 unknown fields", GOOD + b"\x60\1" * 2 * MILLION),
    malformed(31, "15 MB of unknown fields, truncated", GOOD + nested(12, content=bytes(15 * MILLION)) + b"\xff"),
]

# A known field of another wire type is an unknown field, as protobuf wants it.
WIRE_TYPES = [
    Row(32, "model as a number", b"\x08\1", **UNKNOWN_MODEL),
    Row(32, "input as four bytes", NAME + b"\x15\0\0\0\0", fields=("inputs.x",), says="missing"),
    Row(32, "input as eight bytes", NAME + b"\x11" + bytes(8), fields=("inputs.x",), says="missing"),
    Row(32, "shape as text", NAME + nested(2, content=nested(1, content=b"x") + nested(2, content=b"\x08\x0c\x12\2ab"
        + nested(3, content=bytes(4)))), fields=("inputs.x",), says="[97, 98]"),
    accepted(32, "request id as a number", GOOD + b"\x28\1"),
    malformed(32, "wire type 6", GOOD + b"\x66"),
    malformed(32, "wire type 7", GOOD + b"\x67"),
    malformed(32, "field number 0", GOOD + b"\x02\0"),
    malformed(32, "field number 2^29", GOOD + varint(2**29 << 3) + b"\0"),
    accepted(33, "an unknown group", GOOD + GROUP + END_GROUP),
    Row(33, "model as a group", b"\x0b\x0c" + X, **UNKNOWN_MODEL),
    malformed(33, "end of a group that never began", GOOD + END_GROUP),
    malformed(33, "begin of a group that never ends", GOOD + GROUP),
    malformed(33, "end of another group", GOOD + GROUP + b"\x6c"),
    malformed(33, "200 000 begins of groups", b"\x0b" * 200_000),
]  # fmt: skip

NO_TEXT = [
    malformed(34, f"{name} that is not UTF-8", GOOD + data)
    for name, data in {
        "model": nested(1, 1, content=NO_UTF8), "label": nested(1, 3, content=NO_UTF8),
        "input name": nested(2, 1, content=NO_UTF8), "output name": nested(3, content=NO_UTF8),
        "parameter name": nested(4, 1, content=NO_UTF8), "parameter": nested(4, 2, 4, content=NO_UTF8),
        "request id": nested(5, content=NO_UTF8), "fingerprint": nested(6, content=NO_UTF8),
        "lone surrogate as request id": nested(5, content=b"\xed\xa0\x80"),
    }.items()
]  # fmt: skip

AGAIN = [
    malformed(35, "request id 100 000 times", GOOD + nested(5, content=b"a") * 100_000),
    accepted(35, "request id 10 000 times", GOOD + b"".join(nested(5, content=b"%d" % n) for n in range(10_000)),
        holds=lambda answer: answer.request_id == "9999"),
    accepted(35, "another model first", nested(1, 1, content=b"no.model") + GOOD),
    Row(35, "another model last", GOOD + nested(1, 1, content=b"no.model"), **UNKNOWN_MODEL),
    Row(35, "label after version", GOOD + nested(1, content=b"\x10\1\x1a\3abc"), **UNKNOWN_MODEL, says="label 'abc'"),
]  # fmt: skip

DTYPES = [
    Row(37, f"dtype {number}", x([1, 1], dtype=number), fields=("inputs.x",), says=f"got dtype {shown}")
    for number, shown in {0: "unspecified", 16: "unknown (16)", 999: "unknown (999)", -1: "unknown (-1)",
        2**31 - 1: "unknown (2147483647)"}.items()
]  # fmt: skip

VARINTS = [
    malformed(38, "number of 11 bytes", GOOD + b"\x38" + b"\xff" * 10 + b"\1"),
    malformed(38, "number that never ends", GOOD + b"\x38" + b"\xff" * 11),
    malformed(38, "tag of 11 bytes", GOOD + b"\xff" * 10 + b"\1"),
    malformed(38, "length of 11 bytes", GOOD + b"\x12" + b"\xff" * 10 + b"\1"),
    malformed(38, "length of 2^63-1", GOOD + b"\x12" + varint(2**63 - 1)),
    malformed(38, "length of 2^32-1", GOOD + b"\x12" + varint(2**32 - 1)),
    malformed(38, "number of 11 bytes in a large message", bytes([0x62]) + varint(200_000) + bytes(200_000)
        + b"\x38" + b"\xff" * 10 + b"\1"),
    malformed(38, "truncated", GOOD[:-3]),
    malformed(38, "truncated and large", nested(2, content=bytes(200_000))[:-9]),
    malformed(38, "five bytes 0xff", b"\xff" * 5),
    Row(38, "empty message", b"", **UNKNOWN_MODEL),
    Row(38, "four bytes of an eight-byte number", GOOD + b"\x61" + struct.pack("<I", 1), fields=WHOLE),
]  # fmt: skip

ROWS: list[Row] = [*NESTING, *FLOODS, *WIRE_TYPES, *NO_TEXT, *AGAIN, *DTYPES, *VARINTS]
