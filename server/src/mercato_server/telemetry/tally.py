"""What is counted while requests are served: plain numbers that a scrape reads from another thread.

Each object has one writer, the event loop's thread. A reader takes copies that the interpreter makes in one step;
figures of one object may be one request apart.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from mercato_server.telemetry.metrics import PADDING, ROWS, SECONDS

BATCH_PHASES = ("preprocess", "compute", "postprocess")


class Histogram:
    """Counts of values by bucket: the first whose upper bound is not below the value."""

    __slots__ = ("_counts", "bounds", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def counts(self) -> list[int]:
        """Number of values by bucket, the last one above all bounds."""
        return self._counts.copy()


class RequestKey(NamedTuple):
    """What finished requests are told apart by; `model` is "" and `version` 0 where none was found."""

    method: str
    model: str
    version: int
    code: str


class RequestTally:
    """The finished requests of one front."""

    def __init__(self) -> None:
        self._counts: dict[RequestKey, int] = {}
        self._seconds: dict[tuple[str, str], Histogram] = {}

    def count(self, method: str, model: str, version: int, code: str, seconds: float) -> None:
        """Count one finished request."""
        key = RequestKey(method, model, version, code)
        self._counts[key] = self._counts.get(key, 0) + 1
        histogram = self._seconds.get((method, model))
        if histogram is None:
            histogram = self._seconds[method, model] = Histogram(SECONDS)
        histogram.observe(seconds)

    def counts(self) -> dict[RequestKey, int]:
        """Number of requests."""
        return self._counts.copy()

    def seconds(self) -> dict[tuple[str, str], Histogram]:
        """Time from arrival to answer by method and model."""
        return self._seconds.copy()


class BatchTally:
    """The batches of one model version on one front."""

    def __init__(self) -> None:
        self.queue = Histogram(SECONDS)
        self.phases = {phase: Histogram(SECONDS) for phase in BATCH_PHASES}
        self.rows = Histogram(ROWS)
        self.padding = Histogram(PADDING)
        self.failed = 0
        self._released: dict[str, int] = {}
        self._observe = tuple(self.phases[phase].observe for phase in BATCH_PHASES)

    def ran(self, queued_ns: Sequence[int], phases_ns: tuple[int, int, int], rows: int, padding: float) -> None:
        """Count one batch that gave a result; `queued_ns` has the wait of each of its requests."""
        for waited in queued_ns:
            self.queue.observe(waited / 1e9)
        for observe, spent in zip(self._observe, phases_ns, strict=True):
            observe(spent / 1e9)
        self.rows.observe(rows)
        self.padding.observe(padding)

    def release(self, reason: str) -> None:
        """Count one batch that left the queue."""
        self._released[reason] = self._released.get(reason, 0) + 1

    def released(self) -> dict[str, int]:
        """Number of batches by the reason for which they left the queue."""
        return self._released.copy()
