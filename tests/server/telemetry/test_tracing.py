"""Tracing against a collector: spans of a real server, joined to their callers' traces."""

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.server.calls import PREDICT, PRICING, Stream, Wire, pricing, request
from tests.server.conftest import Start
from tests.server.running import Running, environment
from tests.server.telemetry.collector import Collector, attributes, collecting

from mercato_server.telemetry.tracing import FLUSH_SECONDS, Finished, Tracing

METHOD = PREDICT.removeprefix("/")
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PHASES = ["queue", "preprocess", "compute", "postprocess"]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def traced(store: Path, collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that sends its spans to the collector at once."""
    folder = tmp_path_factory.mktemp("traced")
    env = environment(
        folder / "home",
        ("mercato-pricing",),
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{collector.address}",
        OTEL_BSP_SCHEDULE_DELAY="10",
    )
    running = Running(store, folder / "work", env, "--tracing", "otlp")
    try:
        running.ready()
        yield running
        running.terminate()
        assert running.ended() == 0
    finally:
        running.kill()


@pytest.fixture(scope="module")
def own(traced: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(traced.address) as channel:
        yield channel


def parent(flags: str = "01") -> tuple[tuple[str, str], ...]:
    return (("traceparent", f"00-{TRACE}-{PARENT}-{flags}"), ("tracestate", "shop=1"))


def test_a_request_is_a_span_below_its_callers_with_its_phases_below_it(
    own: grpc.Channel, collector: Collector
) -> None:
    before = time.time_ns()
    message = pricing([[1.0], [2.0]], request_id="span-1")
    Wire(own).prediction.Predict(message, timeout=20, metadata=parent())
    after = time.time_ns()
    span, *below = collector.spans("span-1")
    assert (span.name, span.kind, span.status.code) == (METHOD, Span.SPAN_KIND_SERVER, Status.STATUS_CODE_UNSET)
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.trace_state) == (TRACE, PARENT, "shop=1")
    assert attributes(span) == {
        "rpc.system": "grpc",
        "rpc.service": "mercato.v1.PredictionService",
        "rpc.method": "Predict",
        "rpc.grpc.status_code": 0,
        "mercato.model": PRICING,
        "mercato.version": 1,
        "mercato.request_id": "span-1",
        "mercato.batch_rows": 2,
    }
    assert [child.name for child in below] == PHASES
    times = [time for child in below for time in (child.start_time_unix_nano, child.end_time_unix_nano)]
    assert times == sorted(times)
    inside = [before, span.start_time_unix_nano, *times, span.end_time_unix_nano, after]
    # Wall and monotonic clocks are read one after the other.
    assert all(later - earlier > -1_000_000 for earlier, later in itertools.pairwise(inside))


def test_the_resource_says_mercato(own: grpc.Channel, collector: Collector) -> None:
    Wire(own).prediction.Predict(pricing([[1.0]], request_id="span-2"), timeout=20)
    [span, *_] = collector.spans("span-2")
    assert span.parent_span_id == b""
    assert collector.resource["service.name"] == "mercato"


def test_a_refused_request_has_its_status_and_no_phases(own: grpc.Channel, collector: Collector) -> None:
    refused = Wire(own).refused(PREDICT, request("no.model", request_id="span-3").SerializeToString())
    assert refused.code is StatusCode.NOT_FOUND
    [span] = collector.spans("span-3")
    assert attributes(span)["rpc.grpc.status_code"] == StatusCode.NOT_FOUND.value[0]
    assert "mercato.model" not in attributes(span)


def test_requests_of_a_stream_are_spans_of_their_own(own: grpc.Channel, collector: Collector) -> None:
    stream = Stream(own, metadata=parent())
    stream.send(pricing([[1.0]], request_id="span-4"))
    stream.half_close()
    assert len(list(stream.rest())) == 1
    span, *below = collector.spans("span-4")
    assert span.name == "mercato.v1.PredictionService/PredictStream"
    assert span.trace_id.hex() == TRACE
    assert [child.name for child in below] == PHASES


def test_what_is_not_sampled_makes_no_span(own: grpc.Channel, collector: Collector) -> None:
    wire = Wire(own)
    wire.prediction.Predict(pricing([[1.0]], request_id="span-5"), timeout=20, metadata=parent("00"))
    wire.prediction.Predict(pricing([[1.0]], request_id="span-6"), timeout=20)
    seen = []
    while "span-6" not in seen:
        seen += [attributes(span).get("mercato.request_id") for span in collector.next()]
    assert "span-5" not in seen


def test_spans_that_wait_are_sent_at_the_end(start: Start, store: Path) -> None:
    with collecting() as collector:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.address}", "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
        running = start(store, "--tracing", "otlp", OTEL_SERVICE_NAME="shop", **endpoint)
        running.ready()
        with grpc.insecure_channel(running.address) as channel:
            Wire(channel).prediction.Predict(pricing([[1.0]], request_id="last"), timeout=20)
        running.terminate()
        assert running.ended() == 0
        assert len(collector.spans("last")) == 1 + len(PHASES)
    assert collector.resource["service.name"] == "shop"


def test_a_collector_that_does_not_answer_holds_the_end_up_for_a_bounded_time(start: Start, store: Path) -> None:
    running = start(store, "--tracing", "otlp", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    running.ready()
    with grpc.insecure_channel(running.address) as channel:
        assert Wire(channel).price(1.0) > 0
    asked = time.monotonic()
    running.terminate()
    assert running.ended() == 0
    assert time.monotonic() - asked < FLUSH_SECONDS + 10.0


PROGRAM = """
import sys

sys.modules.update(dict.fromkeys({missing!r}))
sys.argv = ["mercato", "serve", "--store", {store!r}, "--listen", "127.0.0.1:0", "--metrics-listen", "off", *{flags!r}]
from mercato_client.cli.app import run

run()
"""


@pytest.mark.parametrize(
    "missing", ["opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"]
)
def test_without_the_extra_the_refusal_names_it(tmp_path: Path, missing: str) -> None:
    program = PROGRAM.format(missing=[missing], store=str(tmp_path), flags=["--tracing", "otlp"])
    ended = subprocess.run([sys.executable, "-c", program], env=environment(tmp_path / "home"), capture_output=True)
    assert ended.returncode == 1
    assert b"install 'mercato-server[tracing]'" in ended.stderr


def test_what_is_off_is_not_imported() -> None:
    program = (
        "import sys, mercato_server.commands.serve;"
        "print([name for name in ('opentelemetry', 'prometheus_client') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert ended.stdout.strip() == b"[]"


def recorded(traceparent: str, tracestate: str) -> ReadableSpan:
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracing = Tracing(provider, provider.shutdown, kept.shutdown)
    metadata = {"traceparent": traceparent, "tracestate": tracestate}
    tracing.record(Finished(METHOD, metadata, time.monotonic_ns(), "INTERNAL", 13, "r-1"))
    tracing.close()
    [span] = kept.get_finished_spans()
    return span


@given(st.text(), st.text())
@example(f"00-{TRACE}-{PARENT}-zz", "shop=1")
@example(f"ff-{TRACE}-{PARENT}-01", "shop=1")
@example(f"00-{'0' * 32}-{PARENT}-01", "shop=1")
@example(f"00-{TRACE}-{'0' * 16}-01", ",,,=")
def test_a_value_that_is_no_traceparent_is_ignored(traceparent: str, tracestate: str) -> None:
    span = recorded(traceparent, tracestate)
    assert span.parent is None
    assert span.status.description == "INTERNAL"


@given(st.text())
@example("," * 8000)
@example("a=" + "b" * 8000)
def test_a_tracestate_without_sense_loses_no_trace(tracestate: str) -> None:
    span = recorded(f"00-{TRACE}-{PARENT}-01", tracestate)
    assert span.parent is not None and f"{span.parent.trace_id:032x}" == TRACE
