"""What is recorded about each request: count and time, a line at DEBUG, a span where tracing is on."""

# grpc's classes are generic in their stubs only, so annotations must stay unevaluated.
from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import grpc

from mercato_server.contract.call import Call
from mercato_server.telemetry.tally import RequestTally

if TYPE_CHECKING:
    from mercato_server.telemetry.tracing import Finished, Tracing

log = logging.getLogger("mercato.requests")


class Observation:
    """Told of every request once at its beginning and once at its end. `tracing` is None where it is off."""

    def __init__(self, tracing: Tracing | None = None) -> None:
        self.requests = RequestTally()
        self._tracing = tracing

    def begin(self, call: Call) -> None:
        """A request has arrived."""

    def end(self, call: Call, code: str) -> None:
        """It was answered, refused or taken back; `code` is the name of a gRPC status."""
        seconds = time.monotonic() - call.started
        self.requests.count(call.method, call.model, call.version, code, seconds)
        if log.isEnabledFor(logging.DEBUG):
            _tell(call, code, seconds)
        if self._tracing is not None:
            self._tracing.record(_finished(call, code))


def _tell(call: Call, code: str, seconds: float) -> None:
    facts = {
        "request_id": call.request_id,
        "method": call.method,
        "model": call.model,
        "version": call.version,
        "status": code,
        "ms": round(seconds * 1e3, 3),
    }
    log.debug("request finished", extra={name: value for name, value in facts.items() if value})


def _finished(call: Call, code: str) -> Finished:
    from mercato_server.telemetry.tracing import Finished

    number: int = grpc.StatusCode[code].value[0]
    started = round(call.started * 1e9)
    receipt = call.receipt
    if receipt is None or not receipt.batches:  # nothing was run for it
        return Finished(call.method, call.metadata, started, code, number, call.request_id, call.model, call.version)
    phases = (
        ("queue", receipt.queue_ns),
        ("preprocess", receipt.pre_ns),
        ("compute", receipt.compute_ns),
        ("postprocess", receipt.post_ns),
    )
    return Finished(
        call.method, call.metadata, started, code, number, call.request_id, call.model, call.version,
        receipt.batch_rows, receipt.started_ns - receipt.queue_ns, phases,
    )  # fmt: skip
