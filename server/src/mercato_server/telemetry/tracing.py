"""Tracing: one span per finished request, joined to its caller's, and below it one per phase.

Imported only where tracing is on: a server without it pays for none of OpenTelemetry.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, StatusCode, TracerProvider, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mercato_server.errors import ConfigError

# Codes that are the server's fault by OpenTelemetry's conventions for gRPC servers.
FAILURES = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})

# Longest wait for the collector when the server ends.
FLUSH_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Finished:
    """One finished request. `metadata` holds the caller's trace context, `started` is in monotonic nanoseconds.

    `phases` are pairs of name and nanoseconds, one after the other from `phases_at`, in monotonic nanoseconds.
    """

    method: str
    metadata: Mapping[str, str]
    started: int
    code: str
    number: int
    request_id: str
    model: str = ""
    version: int = 0
    batch_rows: int = 0
    phases_at: int = 0
    phases: Sequence[tuple[str, int]] = ()


class Tracing:
    """Makes spans of finished requests; `stop` ends what sends them, without waiting for the network."""

    def __init__(self, provider: TracerProvider, flush: Callable[[], None], stop: Callable[[], None]) -> None:
        self._tracer = provider.get_tracer("mercato", version("mercato-server"))
        self._context_of = TraceContextTextMapPropagator().extract
        self._flush = flush
        self._stop = stop

    def record(self, finished: Finished) -> None:
        """Make the spans, unless the caller's context says that the trace is not sampled."""
        offset = time.time_ns() - time.monotonic_ns()
        around = self._context_of(finished.metadata, Context())
        span = self._tracer.start_span(
            finished.method, around, SpanKind.SERVER, _attributes(finished), start_time=finished.started + offset
        )
        if span.is_recording():
            self._record_phases(finished, set_span_in_context(span, around), offset)
        if finished.code in FAILURES:
            span.set_status(StatusCode.ERROR, finished.code)
        span.end()

    def close(self) -> None:
        """Send what waits, for `FLUSH_SECONDS` at most."""
        flushing = threading.Thread(target=self._flush, name="flush of spans", daemon=True)
        flushing.start()
        flushing.join(FLUSH_SECONDS)
        if flushing.is_alive():
            self._stop()

    def _record_phases(self, finished: Finished, parent: Context, offset: int) -> None:
        at = finished.phases_at + offset
        for name, spent in finished.phases:
            self._tracer.start_span(name, parent, start_time=at).end(at + spent)
            at += spent


def _attributes(finished: Finished) -> dict[str, str | int]:
    service, _, method = finished.method.rpartition("/")
    attributes: dict[str, str | int] = {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": method,
        "rpc.grpc.status_code": finished.number,
        "mercato.request_id": finished.request_id,
    }
    if finished.model:
        attributes["mercato.model"] = finished.model
    if finished.version:
        attributes["mercato.version"] = finished.version
    if finished.batch_rows:
        attributes["mercato.batch_rows"] = finished.batch_rows
    return attributes


def to_otlp() -> Tracing:
    """Spans for an OTLP/gRPC collector; where it is, the standard `OTEL_*` variables say.

    Raises ConfigError when the extra is not installed or a variable has no meaning.
    """
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider as Provider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ConfigError("tracing is 'otlp', which needs the extra: install 'mercato-server[tracing]'") from None
    own = Resource.create({"service.name": "mercato", "service.version": version("mercato-server")})
    try:
        exporter = OTLPSpanExporter()
        provider = Provider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter))
    except (ValueError, OSError) as error:
        given = ", ".join(sorted(name for name in os.environ if name.startswith("OTEL_"))) or "none"
        raise ConfigError(f"tracing cannot be set up: {error}; OTEL_* variables that are set: {given}") from None
    return Tracing(provider, provider.shutdown, exporter.shutdown)
