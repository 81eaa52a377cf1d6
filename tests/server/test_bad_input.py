"""Bad input to a running server: each row has its status, the server lives, and the next good call is answered."""

from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from tests.server.calls import PREDICT, PRICING, STRING, Failed, Wire, failed, pricing, request, tensor, texts
from tests.server.running import Running

from mercato.v1 import catalog_pb2, prediction_pb2, tensor_pb2

INVALID = StatusCode.INVALID_ARGUMENT
MILLION = 1_000_000
HERE = {"model": PRICING}
LEAKS = ("Traceback", "Exception deserializing", "Unexpected <class", "mercato_server", "site-packages", ".py", "/home")


@dataclass(frozen=True)
class Bad:
    """A request and the status it must get."""

    name: str
    request: Any
    code: StatusCode = INVALID
    reason: str = "INVALID_REQUEST"
    fields: tuple[str, ...] = ()
    says: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        return self.request if isinstance(self.request, bytes) else bytes(self.request.SerializeToString())


def chosen(**selector: Any) -> prediction_pb2.PredictRequest:
    message = pricing([[4.0]])
    message.model.MergeFrom(prediction_pb2.ModelRef(**selector))
    return message


def x(shape: list[int], data: bytes = b"\0\0\x80\x3f", **facts: Any) -> prediction_pb2.PredictRequest:
    return request(PRICING, tensor("x", shape=shape, data=data, **facts))


def named(name: str) -> tensor_pb2.NamedTensor:
    return tensor_pb2.NamedTensor(name=name)


def timed(seconds: int) -> prediction_pb2.PredictRequest:
    return pricing([[4.0]], timeout=Duration(seconds=seconds))


def nested(*numbers: int, content: bytes) -> bytes:
    """`content` as the field with these numbers, outermost first."""
    for number in reversed(numbers):
        content = bytes([number << 3 | 2]) + varint(len(content)) + content
    return content


def varint(value: int) -> bytes:
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


GOOD = pricing([[4.0]]).SerializeToString()
PACKED_SHAPE = nested(2, 2, 2, content=b"\1" * MILLION)

MANY = {f"p{number}": prediction_pb2.ParameterValue() for number in range(30_000)}

MALFORMED = [
    Bad("five bytes 0xff", b"\xff" * 5, fields=("request",)),
    Bad("truncated", GOOD[:-3], fields=("request",)),
    Bad("truncated and large", nested(2, content=b"\0" * 200_000)[:-9], fields=("request",)),
    Bad("groups and large", b"\x0b" * 200_000, fields=("request",)),
    Bad("number of eleven bytes", b"\x38" + b"\xff" * 11, fields=("request",)),
    Bad("name that is not UTF-8", nested(1, 1, content=b"\xc3("), fields=("request",)),
    Bad("groups nested ten thousand deep", GOOD + b"\x63" * 10_000, fields=("request",)),
    Bad("empty message", b"", StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
]

UNKNOWN = [
    Bad(f"model {name[:12]!r}", request(name), StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    for name in (
        "no.model", "", "../x", "/etc/passwd", ".", "..", "x%2e%2e", "CON", "pricing.linear\n", "\0", "价格",
        "a" * 10_240,
    )
] + [
    Bad(f"version {n}", chosen(version=n), StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", says=f"{n};", facts=HERE)
    for n in (0, 2, -1, 2**63 - 1)
] + [
    Bad(f"label {n[:9]!r}", chosen(label=n), StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", facts=HERE)
    for n in ("canary", "", "../x", "a\nb", "l" * 10_240)
]  # fmt: skip

NAMES = [
    Bad("missing input", request(PRICING), fields=("inputs.x",), says="missing"),
    Bad("extra input", request(PRICING, tensor("x"), tensor("z")), fields=("inputs",), says="no input 'z'"),
    Bad("duplicate input", request(PRICING, tensor("x"), tensor("x")), fields=("inputs.x",), says="given twice"),
    Bad("misnamed input", request(PRICING, tensor("X")), fields=("inputs", "inputs.x"), says="expected x"),
    Bad("input name of 1 MiB", request(PRICING, tensor("x"), tensor("n" * 2**20)), fields=("inputs",)),
    Bad("input name with newline", request(PRICING, tensor("x"), tensor("x\n")), fields=("inputs",), says=r"'x\n'"),
    Bad("unknown output", pricing([[4.0]], outputs=["z"]), fields=("outputs",), says="there are y"),
    Bad("duplicate output", pricing([[4.0]], outputs=["y", "y"]), fields=("outputs",), says="twice"),
    Bad(
        "unknown parameter",
        pricing([[4.0]], parameters={"k": prediction_pb2.ParameterValue(int_value=1)}),
        fields=("parameters",),
        says="no parameter 'k'",
    ),
]

DTYPES = [
    Bad(f"dtype {name}", x([1, 1], dtype=number), fields=("inputs.x",), says="expected float32")
    for name, number in [*tensor_pb2.DataType.items(), ("999", 999)]
    if number != tensor_pb2.DATA_TYPE_FP32
]

SHAPES = [
    Bad(f"shape {shape if len(shape) < 9 else f'of rank {len(shape)}'}", x(shape), fields=("inputs.x",))
    for shape in (
        [-1], [-1, 1], [0, 1], [1], [], [1, 1, 1], [1, 2], [1, 0], [65, 1],
        [2**33, 2**33], [0, 2**62, 8], [2**63 - 1], [-(2**63), 1], [1] * 65,
    )
]  # fmt: skip

PAYLOADS = [
    Bad("one byte short", x([1, 1], b"\0" * 3), fields=("inputs.x",), says="got 3 bytes"),
    Bad("one byte long", x([1, 1], b"\0" * 5), fields=("inputs.x",), says="expected 4 bytes"),
    Bad("no data", x([1, 1], b""), fields=("inputs.x",)),
    Bad("data and items", x([1, 1], items=[b"a"]), fields=("inputs.x",), says="1 items"),
    Bad("row lengths", x([1, 1], row_lengths=[1]), fields=("inputs.x",), says="ragged"),
    Bad("NaN", pricing([[float("nan")]]), fields=("inputs.x",), says="NaN"),
    Bad("infinity", pricing([[1.0], [float("inf")]]), fields=("inputs.x",), says="infinity"),
    Bad("minus infinity", pricing([[float("-inf")]]), fields=("inputs.x",), says="infinity"),
]

TEXTS = [
    Bad("text not UTF-8", texts(b"ok", b"\xff\xfe"), fields=("inputs.text",), says="row 1"),
    Bad("text with lone surrogate", texts(b"\xed\xa0\x80"), fields=("inputs.text",), says="UTF-8"),
    Bad("text too long", texts(b"a" * 8193), fields=("inputs.text",), says="at most 8192"),
    Bad("text with NUL", texts(b"a\0b"), fields=("inputs.text",), says="NUL"),
    Bad("more texts than rows", texts(b"a", b"b", shape=[1]), fields=("inputs.text",), says="expected 1 items"),
    Bad("fewer texts than rows", texts(b"a", shape=[2]), fields=("inputs.text",), says="expected 2 items"),
    Bad("text and data", texts(b"a", data=b"a"), fields=("inputs.text",), says="no data"),
    Bad("65 texts", texts(*[b"a"] * 65), fields=("inputs.text",), says="1 to 64"),
    Bad("texts of rank 2", texts(b"a", shape=[1, 1]), fields=("inputs.text",), says="rank 2"),
]

FLOODS = [
    Bad("10^6 empty inputs", nested(1, 1, content=PRICING.encode()) + b"\x12\0" * MILLION, fields=("request",)),
    Bad("10^6 empty items", nested(2, 2, content=b"\x22\0" * MILLION), fields=("request",)),
    Bad("10^6 shape entries", nested(1, 1, content=PRICING.encode()) + PACKED_SHAPE, fields=("request",)),
    Bad("10^6 single shape entries", nested(2, 2, content=b"\x10\1" * MILLION), fields=("request",)),
    Bad("10^6 row lengths", nested(2, 2, 5, content=b"\1" * MILLION), fields=("request",)),
    Bad("10^6 outputs", b"\x1a\0" * MILLION, fields=("request",)),
    Bad("10^6 parameters", b"\x22\0" * MILLION, fields=("request",)),
    Bad("30 000 unknown inputs", request(PRICING, *[named("👟" * 64)] * 30_000), fields=("inputs",)),
    Bad("30 000 unknown parameters", pricing([[4.0]], parameters=MANY), fields=("parameters",)),
    Bad("30 000 times one input", request(PRICING, *[named("x")] * 30_000), fields=("inputs.x",)),
    Bad("15 MB of unknown fields", GOOD + nested(12, content=b"\0" * 15_000_000) + b"\xff", fields=("request",)),
]

REST = [
    Bad("request id too long", pricing([[4.0]], request_id="i" * 129), fields=("request_id",)),
    Bad("request id with newline", pricing([[4.0]], request_id="a\nb"), fields=("request_id",)),
    Bad("request id not ASCII", pricing([[4.0]], request_id="编号"), fields=("request_id",)),
    Bad("request id in metadata too long", GOOD, fields=("request_id",), metadata=(("x-request-id", "i" * 129),)),
    Bad("priority 2^32-1", pricing([[4.0]], priority=2**32 - 1), fields=("priority",), says="0 to 255"),
    Bad("timeout 0", timed(0), StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXPIRED", facts=HERE),
    Bad("timeout negative", timed(-5), StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXPIRED", facts=HERE),
]  # fmt: skip


def check(bad: Bad, got: Failed) -> None:
    assert (got.code, got.reason) == (bad.code, bad.reason), got.everything
    assert set(got.fields) == set(bad.fields), got.everything
    assert bad.says in got.text
    assert bad.facts.items() <= got.facts.items()
    assert not [leak for leak in LEAKS if leak in got.everything]


@pytest.fixture(autouse=True)
def alive(wire: Wire, server: Running) -> Any:
    """After every case the server serves, answers right, and has not grown."""
    before = server.memory()
    server.forget_peak()
    yield
    assert wire.serving()
    assert wire.price(4.0) == pytest.approx(8.0, abs=0.01)
    assert server.memory() - before < 64 * 2**20


@pytest.mark.parametrize(
    "bad",
    [*MALFORMED, *UNKNOWN, *NAMES, *DTYPES, *SHAPES, *PAYLOADS, *TEXTS, *FLOODS, *REST],
    ids=lambda bad: bad.name,
)
def test_refused(wire: Wire, server: Running, bad: Bad) -> None:
    before = server.memory()
    check(bad, wire.refused(PREDICT, bad.data, metadata=bad.metadata))
    assert server.peak() - before < 48 * 2**20 + 3 * len(bad.data)


def test_another_fingerprint_names_both(wire: Wire) -> None:
    signature = wire.catalog.GetModel(
        catalog_pb2.GetModelRequest(model=prediction_pb2.ModelRef(name=PRICING)), timeout=20
    ).model.versions[0].signature  # fmt: skip
    got = wire.refused(PREDICT, pricing([[4.0]], schema_fingerprint="ab" * 32).SerializeToString())
    assert (got.code, got.reason) == (StatusCode.FAILED_PRECONDITION, "SCHEMA_CHANGED")
    assert got.facts == {"model": PRICING, "expected": signature.fingerprint, "got": "ab" * 32}
    same = pricing([[4.0]], schema_fingerprint=signature.fingerprint)
    assert len(wire.prediction.Predict(same, timeout=20).outputs) == 1


def test_a_deadline_that_has_passed_is_told_by_the_transport(wire: Wire) -> None:
    # gRPC rounds a deadline up, so only one in the past is sure to have passed.
    assert wire.refused(PREDICT, GOOD, timeout=-1.0).code is StatusCode.DEADLINE_EXCEEDED


def test_a_message_over_the_limit_is_refused_by_the_transport(wire: Wire) -> None:
    got = wire.refused(PREDICT, b"\0" * (16 * 2**20 + 1))
    assert got.code is StatusCode.RESOURCE_EXHAUSTED
    assert str(16 * 2**20) in got.text


@pytest.mark.parametrize(
    "method",
    ["/mercato.v1.PredictionService/Nothing", "/mercato.v1.Nothing/Predict", PREDICT.lower(), "/" + PREDICT],
)  # fmt: skip
def test_an_unknown_method_is_unimplemented(wire: Wire, method: str) -> None:
    assert wire.refused(method, GOOD).code is StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("data", [b"\xff" * 5, b"\x0a\x05a", b"\x0a\x02\xc3("], ids=["noise", "truncated", "not UTF-8"])
@pytest.mark.parametrize(
    "method",
    ["/grpc.health.v1.Health/Check", "/mercato.v1.CatalogService/GetModel", "/mercato.v1.CatalogService/ListModels"],
)
def test_every_unary_method_refuses_malformed_bytes(wire: Wire, method: str, data: bytes) -> None:
    if method.endswith("ListModels") and data == b"\x0a\x02\xc3(":
        wire.channel.unary_unary(method)(data, timeout=20)  # a field this server does not know, as protobuf wants it
        return
    check(Bad("", data, fields=("request",)), wire.refused(method, data))


@pytest.mark.parametrize("method", ["GetModel", "ListModels"])
def test_catalog_methods_count_fields_first(wire: Wire, method: str) -> None:
    check(Bad("", b"", fields=("request",)), wire.refused(f"/mercato.v1.CatalogService/{method}", b"\x0a\0" * MILLION))


def test_health_watch_refuses_malformed_bytes(wire: Wire) -> None:
    watch = wire.channel.unary_stream("/grpc.health.v1.Health/Watch")
    with pytest.raises(grpc.RpcError) as caught:
        list(watch(b"\xff" * 5, timeout=20))
    check(Bad("", b"", fields=("request",)), failed(caught.value))


def test_reflection_refuses_malformed_bytes(wire: Wire) -> None:
    reflect = wire.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError) as caught:
        list(reflect(iter([b"\xff" * 5]), timeout=20))
    check(Bad("", b"", fields=("request",)), failed(caught.value))


def test_the_whole_request_is_told_of_at_once(wire: Wire) -> None:
    """Every fault has its violation, as far as the trailers hold them."""
    inputs = [tensor(f"n{number}") for number in range(50)]
    got = wire.refused(PREDICT, request(PRICING, *inputs).SerializeToString())
    assert (got.code, got.reason) == (INVALID, "INVALID_REQUEST")
    assert len(got.fields) >= 8


def test_unknown_service_in_health_is_not_found(wire: Wire) -> None:
    unknown = health_pb2.HealthCheckRequest(service="no.model").SerializeToString()
    assert wire.refused("/grpc.health.v1.Health/Check", unknown).code is StatusCode.NOT_FOUND


def test_strings_for_numbers_are_refused(wire: Wire) -> None:
    data = request(PRICING, tensor("x", STRING, [1, 1], items=[b"4"])).SerializeToString()
    check(Bad("", data, fields=("inputs.x",), says="got dtype string, expected float32"), wire.refused(PREDICT, data))
