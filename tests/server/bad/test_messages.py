"""Every bad request against a running server: its status, and a server that lives, answers right and has not grown."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor
from google.rpc import error_details_pb2
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from tests.server.bad import messages, messages_names, messages_plugin, messages_tensors
from tests.server.bad.messages import GOOD, INVALID, MILLION, Row, kinds, nested
from tests.server.bad.messages_page import ROWS
from tests.server.bad.messages_plugin import BROKEN, DISTRIBUTION
from tests.server.calls import PREDICT, PRICING, Failed, Wire, failed, pricing, request, tensor, texts
from tests.server.gate import GATE, Gate, install
from tests.server.running import Running, environment

from mercato.v1 import catalog_pb2, prediction_pb2

LEAKS = ("Traceback", "Exception deserializing", "Unexpected <class", "mercato_server", "site-packages", ".py", "/home")
MIB = 2**20
# Over a base taken after the largest rows. Once blocks of a whole message have been freed, glibc serves that size from
# its arenas and gives it back late: a message of 16 MiB as gRPC's, Python's and a copy's bytes, in two threads' arenas,
# stays for a while. It holds for all rows together, so leaks far smaller than a message add up until they show.
KEPT = 4 * 16 * MIB
# A message of up to 16 MiB is held as bytes by gRPC, once more by Python, and parsed.
COPIES = 3
PARSED = 48 * MIB
# What a request under a million bytes takes when it has been sent before: 15 bytes a byte at most were measured (the
# same output 60 000 times) and 60 KiB for requests under 100 kB, beside the steps of 2 MiB in which glibc takes pages.
EXPANSION = 40
STEPS = 4 * MIB


@dataclass(frozen=True)
class Site:
    """A running server, a good request to it, and the memory it holds when it is warm."""

    running: Running
    wire: Wire
    good: bytes
    base: int

    def check(self) -> None:
        """It serves, answers right, and has not grown."""
        assert self.wire.serving()
        answer = prediction_pb2.PredictResponse.FromString(self.send(self.good))
        assert len(answer.outputs) > 0
        assert self.running.memory() - self.base < KEPT

    def send(self, data: bytes, method: str = PREDICT) -> bytes:
        return bytes(self.wire.channel.unary_unary(method)(data, timeout=20))


def warm(running: Running, channel: grpc.Channel, good: bytes) -> Site:
    """Send the requests that cost the most memory, and good ones, before the base is taken."""
    wire = Wire(channel)
    for row in (*messages.FLOODS, *messages_tensors.NAMES, *messages_tensors.LENGTHS):
        attempt(wire, row)
    for _ in range(100):
        wire.channel.unary_unary(PREDICT)(good, timeout=20)
    return Site(running, wire, good, running.memory())


def attempt(wire: Wire, row: Row) -> Failed | bytes:
    """What the row's request gets."""
    try:
        return bytes(wire.channel.unary_unary(row.method)(row.data, timeout=20, metadata=row.metadata))
    except grpc.RpcError as error:
        return failed(error)


@pytest.fixture(scope="module")
def shared(server: Running, channel: grpc.Channel) -> Site:
    """The server of the reference models."""
    return warm(server, channel, GOOD)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """The gate of the odd server's test.gate."""
    made = Gate(tmp_path_factory.mktemp("odd-gate") / "gate")
    yield made
    made.close()


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, gate: Gate) -> Iterator[Site]:
    """The server of the odd plugin and of the gate; few permits, so that lost ones would show."""
    folder = tmp_path_factory.mktemp("odd")
    install(folder / "site", "mercato-gate", GATE)
    site = install(folder / "site", DISTRIBUTION, inspect.getsource(messages_plugin))
    variables = {"PYTHONPATH": site, "ODD": str(folder), "GATE": str(gate.folder), "MERCATO_MAX_REQUESTS": "256"}
    plugins = (DISTRIBUTION, "mercato-gate")
    running = Running(folder / "store", folder / "work", environment(folder / "home", plugins, **variables))
    try:
        states = {model["model"]: model["state"] for model in running.ready()["models"]}
        assert states.pop(BROKEN) == "FAILED" and set(states.values()) == {"AVAILABLE"}, running.log
        with grpc.insecure_channel(running.address) as channel:
            yield warm(running, channel, kinds().SerializeToString())
        running.terminate()
        assert running.ended() == 0
    finally:
        running.kill()


@pytest.fixture
def site(row: Row, request: pytest.FixtureRequest) -> Iterator[Site]:
    """The row's server, checked after the row."""
    found: Site = request.getfixturevalue("shared" if row.shared else "odd")
    yield found
    found.check()


def check(row: Row, got: Failed) -> None:
    assert (got.code, got.reason) == (row.code, row.reason), got.everything
    assert set(got.fields) == set(row.fields), got.everything
    assert row.says in got.text
    assert row.facts.items() <= got.facts.items()
    assert_discreet(got.everything)


def assert_discreet(text: str) -> None:
    assert not [leak for leak in LEAKS if leak in text]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.number} {row.name}".encode("ascii", "replace").decode())
def test_row(row: Row, site: Site) -> None:
    if len(row.data) < MILLION:
        attempt(site.wire, row)  # what is made once, by the first of its kind, is not the request's
    before = site.running.memory()
    site.running.forget_peak()
    got = attempt(site.wire, row)
    if row.code is StatusCode.OK:
        assert isinstance(got, bytes), got
        assert row.holds(prediction_pb2.PredictResponse.FromString(got))
    else:
        assert isinstance(got, Failed), "it was answered"
        check(row, got)
    assert site.running.peak() - before < allowed(len(row.data))


def allowed(size: int) -> int:
    """Bytes that a request of `size` bytes may take while it is read."""
    return STEPS + EXPANSION * size if size < MILLION else PARSED + COPIES * size


def test_rows_have_names_of_their_own() -> None:
    names = [(row.number, row.name) for row in ROWS]
    assert len(set(names)) == len(names)


# --- beside the rows --------------------------------------------------------------------------------------------------


def test_no_request_holds_a_message_of_any_type() -> None:
    """Number 36: nothing to nest, because no field of a request is an `Any`."""

    def reached(kind: Descriptor, seen: set[str]) -> set[str]:
        if kind.full_name not in seen:
            seen.add(kind.full_name)
            for item in kind.fields:
                if item.message_type is not None:
                    reached(item.message_type, seen)
        return seen

    for kind in (prediction_pb2.PredictStreamRequest, catalog_pb2.GetModelRequest, catalog_pb2.ListModelsRequest):
        assert "google.protobuf.Any" not in reached(kind.DESCRIPTOR, set())


def test_another_fingerprint_names_both(wire: Wire) -> None:
    reference = prediction_pb2.ModelRef(name=PRICING)
    answer = wire.catalog.GetModel(catalog_pb2.GetModelRequest(model=reference), timeout=20)
    fingerprint = answer.model.versions[0].signature.fingerprint
    got = wire.refused(PREDICT, pricing([[4.0]], schema_fingerprint="ab" * 32).SerializeToString())
    assert (got.code, got.reason) == (StatusCode.FAILED_PRECONDITION, "SCHEMA_CHANGED")
    assert got.facts == {"model": PRICING, "expected": fingerprint, "got": "ab" * 32}
    same = pricing([[4.0]], schema_fingerprint=fingerprint)
    assert len(wire.prediction.Predict(same, timeout=20).outputs) == 1


def test_a_message_over_the_limit_is_refused_by_the_transport(wire: Wire) -> None:
    got = wire.refused(PREDICT, bytes(16 * MIB + 1))
    assert got.code is StatusCode.RESOURCE_EXHAUSTED
    assert str(16 * MIB) in got.text


@pytest.mark.parametrize(
    "method",
    ["/mercato.v1.PredictionService/Nothing", "/mercato.v1.Nothing/Predict", PREDICT.lower(), "/" + PREDICT],
)  # fmt: skip
def test_an_unknown_method_is_unimplemented(wire: Wire, method: str) -> None:
    assert wire.refused(method, GOOD).code is StatusCode.UNIMPLEMENTED


def test_a_field_that_a_catalog_method_does_not_know_is_no_mistake(wire: Wire) -> None:
    wire.channel.unary_unary(messages_names.LIST)(b"\x0a\2\xc3(", timeout=20)


@pytest.mark.parametrize("data", [b"\xff" * 5, b"\x0a\x05a", b"\x0a\x02\xc3("], ids=["noise", "truncated", "not UTF-8"])
def test_health_refuses_malformed_bytes(wire: Wire, data: bytes) -> None:
    check(Row(38, "", data, fields=("request",)), wire.refused("/grpc.health.v1.Health/Check", data))
    with pytest.raises(grpc.RpcError) as caught:
        list(wire.channel.unary_stream("/grpc.health.v1.Health/Watch")(data, timeout=20))
    check(Row(38, "", data, fields=("request",)), failed(caught.value))


def test_reflection_refuses_malformed_bytes(wire: Wire) -> None:
    reflect = wire.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError) as caught:
        list(reflect(iter([b"\xff" * 5]), timeout=20))
    check(Row(38, "", b"", fields=("request",)), failed(caught.value))


def test_unknown_service_in_health_is_not_found(wire: Wire) -> None:
    unknown = health_pb2.HealthCheckRequest(service="no.model").SerializeToString()
    assert wire.refused("/grpc.health.v1.Health/Check", unknown).code is StatusCode.NOT_FOUND


def test_the_whole_request_is_told_of_at_once(wire: Wire) -> None:
    """Every fault has its violation, as far as the trailers hold them."""
    inputs = [tensor(f"n{number}") for number in range(50)]
    got = wire.refused(PREDICT, request(PRICING, *inputs).SerializeToString())
    assert (got.code, got.reason) == (INVALID, "INVALID_REQUEST")
    assert len(got.fields) >= 8


# --- in a stream ------------------------------------------------------------------------------------------------------

STREAM = "/mercato.v1.PredictionService/PredictStream"
# A row about the request's id cannot have an id of the stream's as well.
STREAMED = [
    row for row in ROWS
    if row.shared and 27 <= row.number <= 63 and row.method == PREDICT and len(row.data) < MILLION
    and "request id" not in row.name
]  # fmt: skip


def in_stream(data: bytes, given: str) -> bytes:
    return nested(1, content=nested(5, content=given.encode()) + data)


def test_in_a_stream_every_row_has_its_error_and_the_stream_goes_on(shared: Site) -> None:
    sent = []
    for place, row in enumerate(STREAMED):
        sent += [in_stream(row.data, f"row{place}"), in_stream(GOOD, f"good{place}")]
    found = shared.wire.channel.stream_stream(STREAM)(iter(sent), timeout=60)
    answers = [prediction_pb2.PredictStreamResponse.FromString(data) for data in found]
    named = {answer.request_id: answer for answer in answers}
    assert len(answers) == len(sent) and all(answer.last for answer in answers)
    for place, row in enumerate(STREAMED):
        assert named[f"good{place}"].HasField("ok")
        if row.code is StatusCode.OK:
            assert row.holds(named[f"row{place}"].ok)
        else:  # the id stands first: it is told even where the rest cannot be read
            check(row, in_band(named[f"row{place}"]))
    shared.check()


def in_band(answer: prediction_pb2.PredictStreamResponse) -> Failed:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in answer.error.details:
        detail.Unpack(info) or detail.Unpack(bad)
    code = next(code for code in StatusCode if code.value[0] == answer.error.code)
    fields = [violation.field for violation in bad.field_violations]
    return Failed(code, answer.error.message, {}, info.reason, dict(info.metadata), fields)


# --- states, cancels, deadlines ---------------------------------------------------------------------------------------


def test_cancels_leave_nothing_behind(shared: Site, odd: Site) -> None:
    """Number 79; the odd server has 256 permits, so lost ones would refuse a later round."""
    long = texts(b"shoe " * 60).SerializeToString()
    for place, data, count in ((odd, odd.good, 120), (shared, GOOD, 120), (shared, long, 20)) * 4:
        codes = cancelled(begun(place, data, count))
        assert StatusCode.CANCELLED in codes <= {StatusCode.CANCELLED, StatusCode.OK}
        place.check()


def test_cancels_while_a_model_runs_leave_nothing_behind(odd: Site, gate: Gate) -> None:
    """Number 79: one call runs, the others wait behind it; more in all than there are permits."""
    waits = request("test.gate", tensor("x", data=np.float32(-1).tobytes())).SerializeToString()
    for _ in range(3):
        running = begun(odd, waits, 1)
        gate.reached("run")
        behind = begun(odd, request("test.gate", tensor("x")).SerializeToString(), 119)
        assert cancelled(running + behind) == {StatusCode.CANCELLED}
        gate.open("run")
        odd.check()


def begun(place: Site, data: bytes, count: int) -> list[Any]:
    return [place.wire.channel.unary_unary(PREDICT).future(data, timeout=60) for _ in range(count)]


def cancelled(calls: list[Any]) -> set[StatusCode]:
    """The codes of the calls, cancelled here; the latest first, which has had the least time to be answered."""
    for call in reversed(calls):
        call.cancel()
    return {call.code() for call in calls}


def test_a_cancel_after_the_answer_changes_nothing(shared: Site) -> None:
    call = shared.wire.channel.unary_unary(PREDICT).future(GOOD, timeout=20)
    assert call.result()
    assert not call.cancel()
    assert call.code() is StatusCode.OK
    shared.check()


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.000_001, 0.001])
def test_a_deadline_that_passes_is_told_as_such(shared: Site, seconds: float) -> None:
    """Number 80. gRPC rounds a deadline up, so only one in the past is sure to have passed; others may be refused."""
    others = {StatusCode.OK, StatusCode.RESOURCE_EXHAUSTED} if seconds >= 0 else set()
    for _ in range(25):
        assert attempt_in(shared.wire, seconds) in {StatusCode.DEADLINE_EXCEEDED, *others}
    shared.check()


def attempt_in(wire: Wire, seconds: float) -> StatusCode:
    call = wire.channel.unary_unary(PREDICT).future(GOOD, timeout=seconds)
    code: StatusCode = call.code()
    return code


def test_no_deadline_is_no_mistake(shared: Site) -> None:
    assert shared.wire.channel.unary_unary(PREDICT)(GOOD)


def test_requests_of_a_batch_fail_alone(odd: Site) -> None:
    """Number 64: what one caller's id does to the batch is that caller's alone."""
    good, bad = messages_tensors.ids(0, 1), messages_tensors.ids(-6, 1)
    sends = [odd.wire.prediction.Predict.future(bad if n % 3 == 0 else good, timeout=20) for n in range(60)]
    codes = [call.code() for call in sends]
    assert codes == [INVALID if n % 3 == 0 else StatusCode.OK for n in range(60)]
    odd.check()
