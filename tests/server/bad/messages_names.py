"""Bad input as data: names, versions, parameters, ids, and the states of a model (70 to 80)."""

from typing import Any

from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode
from tests.server.bad.messages import GOOD, NAME, OK, UNKNOWN_MODEL, Row, accepted, kinds, nested, parameter, varint
from tests.server.bad.messages_plugin import BROKEN
from tests.server.calls import PRICING, pricing, request, tensor

from mercato.v1 import catalog_pb2, prediction_pb2

GET = "/mercato.v1.CatalogService/GetModel"
LIST = "/mercato.v1.CatalogService/ListModels"
WHOLE = ("request",)
HERE = {"model": PRICING}
PASSED: dict[str, Any] = {"code": StatusCode.DEADLINE_EXCEEDED, "reason": "DEADLINE_EXPIRED", "facts": HERE}


def shown(text: str) -> str:
    return repr(text) if len(text) < 16 else f"of {len(text)} characters"


def chosen(**selector: Any) -> prediction_pb2.PredictRequest:
    message = pricing([[4.0]])
    message.model.MergeFrom(prediction_pb2.ModelRef(**selector))
    return message


def described(name: str, **selector: Any) -> catalog_pb2.GetModelRequest:
    return catalog_pb2.GetModelRequest(model=prediction_pb2.ModelRef(name=name, **selector))


NO_MODELS = (
    "no.model", "", "../x", "a/../b", "/etc/passwd", ".", "..", " ..", "x%2e%2e", "CON", "pricing.linear\n",
    "pricing.linear ", "PRICING.LINEAR", "pricing", "pricing_linear", "\0", "\n", "   ", "价格", "pricing.1inear",
    "\u202epricing.linear", "__class__.x", "a" * 10_240, "👟" * 5_000,
)  # fmt: skip
MODELS = [
    Row(70, f"model {shown(name)}, {method.rpartition('/')[2]}", build(name), **UNKNOWN_MODEL, method=method)
    for name in NO_MODELS
    for method, build in (("/mercato.v1.PredictionService/Predict", request), (GET, described))
]

LABELS = ("01", "-1", "1", "1e3", "latest ", "canary", "", "../x", "a\nb", "STABLE", "l" * 10_240)
VERSIONS = (
    [
        Row(71, f"version {n}", chosen(version=n), **UNKNOWN_MODEL, says=f"{n};", facts=HERE)
        for n in (0, 2, -1, 2**31, 2**63 - 1, -(2**63))
    ]
    + [Row(71, f"label {shown(n)}", chosen(label=n), **UNKNOWN_MODEL, facts=HERE) for n in LABELS]
    + [
        Row(71, f"version {n} of GetModel", described(PRICING, version=n), **UNKNOWN_MODEL, facts=HERE, method=GET)
        for n in (0, -1, 2**63 - 1)
    ]
    + [
        Row(71, f"label {shown(n)} of GetModel", described(PRICING, label=n), **UNKNOWN_MODEL, facts=HERE, method=GET)
        for n in ("canary", "", "a\nb")
    ]
    # Nine bytes and a bit: the highest bit makes it negative.
    + [Row(71, "version 2^63", NAME + nested(1, content=b"\x10" + varint(2**63)), **UNKNOWN_MODEL, facts=HERE)]
)

MANY = {f"p{number}": prediction_pb2.ParameterValue() for number in range(30_000)}
WRONG: tuple[tuple[str, bool | int | float | str, str], ...] = (
    ("k", 1.5, "a whole number"), ("k", "1", "a whole number"), ("k", False, "a whole number"),
    ("scale", "1", "a finite number"), ("scale", float("nan"), "a finite number"), ("scale", float("inf"), "a finite"),
    ("scale", -0.5, "from 0.0"), ("scale", True, "a finite number"), ("write", 1, "a boolean"),
    ("write", "true", "a boolean"), ("order", "size", "one of price, name"), ("order", "", "one of price, name"),
    ("order", 0, "one of price, name"), ("word", "鞋子鞋", "at most 8 bytes"), ("word", "w" * 2**20, "at most 8 bytes"),
    ("word", 1, "a string"), ("seed", 0.5, "a whole number"),
)  # fmt: skip
PARAMETERS = [
    Row(72, f"{name} = {shown(str(value))} ({type(value).__name__})", kinds(parameters={name: parameter(value)}),
        shared=False, fields=(f"parameters.{name}",), says=says)
    for name, value, says in WRONG
] + [
    Row(72, f"{name} without a value", kinds(parameters={name: prediction_pb2.ParameterValue()}), shared=False,
        fields=(f"parameters.{name}",), says="expected")
    for name in ("k", "scale", "write", "order", "word")
] + [
    Row(72, f"parameter {shown(name)}", pricing([[4.0]], parameters={name: parameter(1)}), fields=("parameters",),
        says="no parameter")
    for name in ("k", "", "K", "__class__", "model", "triton_sequence_id", "a\nb", "\0", "价格", "p" * 10_240)
] + [
    Row(72, "10 000 parameters", pricing([[4.0]], parameters=dict(list(MANY.items())[:10_000])),
        fields=("parameters",)),
    Row(72, "30 000 parameters", pricing([[4.0]], parameters=MANY), fields=("parameters",)),
    Row(72, "the last of two values counts", kinds(parameters={"k": parameter(0)}).SerializeToString()
        + kinds(parameters={"k": parameter(5)}).SerializeToString()[len(kinds().SerializeToString()):],
        shared=False, **OK),
    Row(72, "every number a per-row parameter may be", kinds(parameters={"seed": parameter(-(2**63))}), shared=False,
        **OK),
]  # fmt: skip

IDS = [
    Row(73, f"request id {shown(text)}", pricing([[4.0]], request_id=text), fields=("request_id",),
        says="at most 128 printable ASCII")
    for text in ("a\nb", "a\r\nb", "a\0b", "\x1b[31m", "a\tb", "\x7f", "编号", "i" * 129, "i" * 2**20)
] + [
    Row(73, f"request id {shown(text)} in the metadata", GOOD, fields=("request_id",),
        metadata=(("x-request-id", text),), says="at most 128 printable ASCII")
    for text in ("i" * 129, "i" * 4096)
] + [
    accepted(73, "request id that would format a log", pricing([[4.0]], request_id='%s{0}${x}" level=error'),
        holds=lambda answer: answer.request_id == '%s{0}${x}" level=error'),
    accepted(73, "request id of 128 characters", pricing([[4.0]], request_id="i" * 128)),
]  # fmt: skip

PRIORITIES = [
    Row(74, "priority 10", pricing([[4.0]], priority=10), fields=("priority",), says="0 to 9"),
    Row(74, "priority 2^32-1", pricing([[4.0]], priority=2**32 - 1), fields=("priority",), says="0 to 9"),
    Row(74, "priority 2^64-1", GOOD + b"\x38" + varint(2**64 - 1), fields=("priority",), says="0 to 9"),
    accepted(74, "priority 9", pricing([[4.0]], priority=9)),
]

BROKEN_INPUT = tensor("x", shape=[1, 2], data=bytes(8))
STATES = [
    Row(75, "a model that failed", request(BROKEN, BROKEN_INPUT), StatusCode.FAILED_PRECONDITION, "MODEL_FAILED",
        shared=False, facts={"model": BROKEN}, says="no index"),
    Row(75, "a model that failed, by its version", nested(1, content=b"\x10\1")
        + request(BROKEN, BROKEN_INPUT).SerializeToString(), StatusCode.FAILED_PRECONDITION, "MODEL_FAILED",
        shared=False),
]  # fmt: skip


def timed(seconds: int, nanos: int = 0) -> prediction_pb2.PredictRequest:
    return pricing([[4.0]], timeout=Duration(seconds=seconds, nanos=nanos))


TIMEOUTS = [
    Row(80, f"timeout {seconds} s {nanos} ns", timed(seconds, nanos), **PASSED)
    for seconds, nanos in ((0, 0), (0, 1))
] + [
    Row(80, f"timeout {seconds} s {nanos} ns", timed(seconds, nanos), fields=("timeout",), says="neither below 0")
    for seconds, nanos in ((-5, 0), (0, -1), (-(2**63), 0), (1, -(2**31)), (60, 2**31 - 1))
] + [
    accepted(80, f"timeout {seconds} s {nanos} ns", timed(seconds, nanos))
    for seconds, nanos in ((2**63 - 1, 0), (60, 999_999_999))
]  # fmt: skip

CATALOG = [
    Row(38, f"{name} to {method.rpartition('/')[2]}", data, method=method, fields=WHOLE)
    for method in (GET, LIST)
    for name, data in {"noise": b"\xff" * 5, "truncated": b"\x0a\5a", "a million fields": b"\x0a\0" * 1_000_000}.items()
] + [
    Row(34, "model that is not UTF-8 to GetModel", nested(1, 1, content=b"\xc3("), method=GET, fields=WHOLE),
]  # fmt: skip

ROWS: list[Row] = [
    *MODELS, *VERSIONS, *PARAMETERS, *IDS, *PRIORITIES, *STATES, *TIMEOUTS, *CATALOG,
]  # fmt: skip
