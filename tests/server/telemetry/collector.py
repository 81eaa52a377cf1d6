"""An OTLP collector: takes spans over gRPC and keeps them."""

import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from tests.server.running import PATIENCE


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """`address` is where it listens."""

    def __init__(self) -> None:
        self.address = ""
        self.resource: dict[str, Any] = {}
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by the proto
        self._requests.put(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self, request_id: str) -> list[Span]:
        """Wait for the spans of one request; its own first, then those below it in order of time."""
        while True:
            found = self.next()
            for span in found:
                if attributes(span).get("mercato.request_id") == request_id:
                    below = [child for child in found if child.parent_span_id == span.span_id]
                    return [span, *sorted(below, key=lambda child: child.start_time_unix_nano)]

    def next(self) -> list[Span]:
        """Wait for the next message's spans."""
        return [span for group in self._requests.get(timeout=PATIENCE).resource_spans for span in self._read(group)]

    def _read(self, group: Any) -> list[Span]:
        self.resource |= attributes(group.resource)
        return [span for scope in group.scope_spans for span in scope.spans]


def attributes(holder: Any) -> dict[str, Any]:
    """Attributes of a span or a resource as plain values."""
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in holder.attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a port of its own."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server  # generated without types
    add(collector, server)
    collector.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()
