"""An answer that is put together from rows of several origins, and the receipt that tells which."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from mercato_server.contract.batch import Array
from mercato_server.contract.receipt import CacheOutcome, Receipt, ReleaseReason, together
from mercato_server.errors import PluginFault
from mercato_server.serving.known_rows import Row, stacked
from mercato_server.serving.request import Answer, Request

log = logging.getLogger("mercato.serving")

# Seconds by which deadlines may differ on arrival though the callers' timeouts are the same.
_SAME_DEADLINE = 0.1


class Run:
    """A request that is being run for its rows, whose `keys` stand in their order.

    `calls` are those that wait for it, each with the places of the rows that it is to bring them; `leader` is the one
    that it was made for.
    """

    __slots__ = ("calls", "future", "keys", "leader", "request")

    def __init__(self, leader: "Call", request: Request, keys: list[bytes], future: "asyncio.Future[Answer]") -> None:
        self.leader = leader
        self.request = request
        self.keys = keys
        self.future = future
        self.calls: dict[Call, list[int]] = {}

    def is_as_urgent(self, request: Request) -> bool:
        """As another request, so that one may wait for the rows of this one."""
        own = self.request
        if own.priority != request.priority:
            return own.priority < request.priority
        return own.urgency <= request.urgency + _SAME_DEADLINE


class Underway:
    """The runs that may be waited for: for each row the most urgent one, and those of other callers beside it.

    A caller who does not wait for the others' has to find its own among them.
    """

    def __init__(self) -> None:
        self._runs: dict[bytes, Run] = {}
        self._beside: dict[tuple[str, bytes], Run] = {}

    def find(self, key: bytes, caller: str) -> Sequence[Run]:
        """Those that bring a row: the most urgent of all, and the one of that caller if it is another."""
        run = self._runs.get(key)
        own = self._beside.get((caller, key)) if self._beside else None
        return [found for found in (run, own) if found is not None] if run or own else ()

    def add(self, run: Run) -> None:
        """Have it found by everyone, or where there is one as urgent by its own caller."""
        for key in run.keys:
            first = self._runs.get(key)
            if first is None:
                self._runs[key] = run
                continue
            second = run
            if not first.is_as_urgent(run.request):
                self._runs[key], second = run, first
            if first.request.caller != run.request.caller:
                self._beside[second.request.caller, key] = second

    def forget(self, run: Run) -> None:
        """Have it found no more."""
        for key in run.keys:
            if self._runs.get(key) is run:
                del self._runs[key]
            name = run.request.caller, key
            if self._beside and self._beside.get(name) is run:
                del self._beside[name]


class Call:
    """One request and what there is of its answer. `runs` are those that it waits for.

    `missing` are the places of the rows that were not known when it came, `lost` counts the runs of others that
    brought it nothing.
    """

    __slots__ = (
        "_cut", "_joined", "_own", "_ran", "_rows", "_whole", "future", "keys", "lost", "missing", "request", "runs",
    )  # fmt: skip

    def __init__(self, request: Request, future: "asyncio.Future[Answer]", keys: list[bytes]) -> None:
        self.request = request
        self.future = future
        self.keys = keys
        self.runs: set[Run] = set()
        self.lost = 0
        self.missing: Sequence[int] = ()
        self._own: list[Receipt] = []
        self.clear()

    def clear(self) -> None:
        """Let go of every row."""
        self._rows: dict[int, Row] = {}
        self._whole: Mapping[str, Array] | None = None
        self._cut: Counter[str] = Counter()
        self._joined: list[Receipt] = []
        self._ran = 0

    def wait(self, run: Run, place: int) -> None:
        """Have a run bring the row at a place."""
        self.runs.add(run)
        run.calls.setdefault(self, []).append(place)

    def take(self, place: int, row: Row) -> None:
        """Put a row in its place."""
        self._rows[place] = row
        if row.cut:
            self._cut.update(row.cut)

    def land(self, run: Run, places: Sequence[int], answer: Answer, rows: Sequence[Row]) -> bool:
        """Take what a run has brought for some places; False when its receipt cannot be divided among the rows."""
        is_own = run.leader is self
        (self._own if is_own else self._joined).append(answer.receipt)
        if [self.keys[place] for place in places] == run.keys:
            self._take_all(places, answer, rows)
        elif rows[0].cut is None:
            return False
        else:
            by_key = dict(zip(run.keys, rows, strict=True))
            for place in places:
                self.take(place, by_key[self.keys[place]])
        self._ran += len(run.keys) if is_own else 0
        return True

    def answer(self) -> Answer | None:
        """The answer when every row is there; None when outputs of its rows differ in shape."""
        outputs = self._whole or stacked([self._rows[place] for place in range(self.request.rows)])
        return None if outputs is None else Answer(outputs, self._receipt())

    def _take_all(self, places: Sequence[int], answer: Answer, rows: Sequence[Row]) -> None:
        self._cut.update(answer.receipt.truncations)
        if len(places) == self.request.rows:
            self._whole = dict(answer.outputs)
        else:
            self._rows.update(zip(places, rows, strict=True))

    def _receipt(self) -> Receipt:
        cut, cached = self._truncations(), self.request.rows - self._ran
        if self._own:
            outcome = CacheOutcome.PARTIAL if cached else CacheOutcome.MISS
            return together(self._own)._replace(truncations=cut, cache=outcome, cached_rows=cached)
        if self._joined:
            outcome = CacheOutcome.COALESCED
            return together(self._joined)._replace(truncations=cut, batches=0, cache=outcome, cached_rows=cached)
        provider = self._rows[0].provider
        return Receipt(0, 0, 0, 0, 0, 0.0, ReleaseReason.NONE, provider, cut, 0, 0, CacheOutcome.HIT, cached)

    def _truncations(self) -> Mapping[str, int]:
        own = self.request.truncations
        if not self._cut:
            return own
        return {name: max(own.get(name, 0), self._cut[name]) for name in own.keys() | self._cut.keys()}


def unmade(model: str, error: Exception) -> PluginFault:
    """What callers get where an answer could not be put together; what was raised is logged."""
    fault = PluginFault(f"model {model!r} failed: no answer could be made of its outputs", model=model)
    log.error("%s", fault, exc_info=error, extra={"model": model, "fault": fault.id})
    return fault
