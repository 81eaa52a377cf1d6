"""One queue per model: a batch leaves at once when the lane is free, and callers join while it is busy."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain

from mercato_plugin import BatchPolicy
from mercato_server.contract.lane import Lane
from mercato_server.contract.receipt import ReleaseReason
from mercato_server.errors import DeadlineExpired, Draining, RequestError
from mercato_server.serving.batch import join, split
from mercato_server.serving.request import Answer, Entry, GroupKey, Request
from mercato_server.telemetry.tally import BatchTally

_SWEEP_EVERY = 16
_SHORTEST_DRAIN = 0.01


class Batcher:
    """Forms batches of one model and runs them, one at a time, through its lane; belongs to the loop it is made in.

    `clock` gives nanoseconds of the monotonic clock. Entries whose caller has gone or whose deadline
    has passed are dropped when a batch is formed and never run.
    """

    def __init__(
        self, model: str, lane: Lane, policy: BatchPolicy, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._model = model
        self._lane = lane
        self._policy = policy
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._groups: dict[GroupKey, deque[Entry]] = {}
        self._retries: deque[Entry] = deque()
        self._running: asyncio.Task[None] | None = None
        self._until_sweep = _SWEEP_EVERY
        self._rows = 0  # in the groups
        self.batch_seconds = 0.0
        self.tally = BatchTally()

    def submit(self, request: Request) -> "asyncio.Future[Answer]":
        """Queue a request. Cancelling the future takes the request out, unless it is already running."""
        entry = Entry(request, self._loop.create_future(), self._clock())
        self._groups.setdefault(request.group, deque()).append(entry)
        self._rows += request.rows
        if self._running is None:
            # It starts in the loop's next turn, so that requests read in this turn leave together.
            self._running = self._loop.create_task(self._work())
        self._until_sweep -= 1
        if not self._until_sweep:
            self._sweep()
        return entry.future

    async def finished(self) -> None:
        """Return when nothing is queued and nothing runs; new requests must have been stopped before."""
        while self._running is not None:
            await asyncio.wait([self._running])

    def abandon(self) -> None:
        """Give up on what waits and what runs: its callers get Draining. The lane may still be busy with the run."""
        if self._running is not None:
            self._running.cancel()
            self._running = None  # its task may end before it ever began
        self._drop([*self._retries, *chain.from_iterable(self._groups.values())])
        self._retries.clear()
        self._groups.clear()
        self._rows = 0

    def queued(self) -> int:
        """Number of requests waiting; any thread may ask."""
        return len(self._retries) + sum(map(len, list(self._groups.values())))

    def drain_seconds(self) -> float:
        """Estimated time until what is queued now has been run, retries one by one; 10 ms at least."""
        batches = 1 + len(self._retries) + self._rows / self._policy.max_rows
        return max(_SHORTEST_DRAIN, self.batch_seconds * batches)

    async def _work(self) -> None:
        """Run batch after batch until nothing waits; each is formed in the very turn in which the lane gets it."""
        release = ReleaseReason.IDLE
        try:
            while True:
                entries, full = self._next_entries()
                if not entries:
                    return
                await self._run(entries, _reason(entries, full, release))
                release = ReleaseReason.JOINED
        finally:
            self._running = None

    async def _run(self, entries: Sequence[Entry], release: ReleaseReason) -> None:
        started = self._clock()
        requests = [entry.request for entry in entries]
        queued_ns = [started - entry.since for entry in entries]
        self.tally.release(release.value)
        try:
            joined = join(requests)
            result = await self._lane.run(joined)
            answers = split(result, requests, queued_ns, release, self._model, started)
        except asyncio.CancelledError:
            self._drop(entries)
            raise
        except Exception as error:
            self._failed(entries, error)
        else:
            phases_ns = (result.pre_ns, result.compute_ns, result.post_ns)
            self.tally.ran(queued_ns, phases_ns, joined.rows, result.padding)
            _settle(entries, answers)
        self._learn((self._clock() - started) / 1e9)

    def _failed(self, entries: Sequence[Entry], error: Exception) -> None:
        """A joined batch that raised: each member is run once alone, so that only the guilty one fails."""
        self.tally.failed += 1
        if len(entries) > 1:
            for entry in entries:
                entry.alone = True
            self._retries.extend(entries)
        elif not entries[0].future.done():
            entries[0].future.set_exception(error)

    def _drop(self, entries: Sequence[Entry]) -> None:
        text = f"model {self._model!r}: the server is stopping and did not wait for this request any longer"
        for entry in entries:
            if not entry.future.done():
                entry.future.set_exception(Draining(text, model=self._model))
                entry.future.exception()  # asked for here: its caller may have ended before it

    def _next_entries(self) -> tuple[list[Entry], bool]:
        """Take the next batch out of the queue; true when it reached its limit with more waiting."""
        while self._retries:
            if self._alive(entry := self._retries.popleft()):
                return [entry], False
        while self._groups:
            key = min(self._groups, key=lambda group: self._groups[group][0].since)
            entries, full = self._take(self._groups[key])
            if not self._groups[key]:
                del self._groups[key]
            if entries:
                return entries, full
        return [], False

    def _take(self, group: deque[Entry]) -> tuple[list[Entry], bool]:
        taken: list[Entry] = []
        rows = cost = 0
        while group:
            entry = group[0]
            if not self._alive(entry):
                self._pop(group)
                continue
            rows += entry.request.rows
            cost += entry.request.cost
            if taken and self._passes_limit(rows, cost):
                return taken, True
            taken.append(self._pop(group))
        return taken, False

    def _pop(self, group: deque[Entry]) -> Entry:
        entry = group.popleft()
        self._rows -= entry.request.rows
        return entry

    def _passes_limit(self, rows: int, cost: int) -> bool:
        return rows > self._policy.max_rows or (self._policy.max_cost is not None and cost > self._policy.max_cost)

    def _alive(self, entry: Entry) -> bool:
        """Whether somebody still waits; an expired entry is told so, and neither is ever run."""
        if entry.future.done():
            return False
        if self._clock() / 1e9 >= entry.request.deadline:
            text = f"model {self._model!r}: the deadline passed in the queue, nothing was run"
            entry.future.set_exception(DeadlineExpired(text, model=self._model))
            return False
        return True

    def _sweep(self) -> None:
        """Let go of requests whose callers have gone: behind a busy lane they would hold memory without bound."""
        for key, group in list(self._groups.items()):
            self._groups[key] = deque(entry for entry in group if not entry.future.done())
            if not self._groups[key]:
                del self._groups[key]
        self._rows = sum(entry.request.rows for group in self._groups.values() for entry in group)
        # As many arrivals as entries left, so that a request pays for a constant share of the sweeps.
        self._until_sweep = max(_SWEEP_EVERY, self.queued())

    def _learn(self, seconds: float) -> None:
        """Running mean of a batch's time from the first one on, for the pushback of refused requests."""
        self.batch_seconds += (0.2 if self.batch_seconds else 1.0) * (seconds - self.batch_seconds)


def _reason(entries: Sequence[Entry], full: bool, release: ReleaseReason) -> ReleaseReason:
    if entries[0].alone:
        return ReleaseReason.ALONE
    return ReleaseReason.FULL if full else release


def _settle(entries: Sequence[Entry], answers: Sequence[Answer | RequestError]) -> None:
    for entry, answer in zip(entries, answers, strict=True):
        if entry.future.done():
            continue
        if isinstance(answer, RequestError):
            entry.future.set_exception(answer)
        else:
            entry.future.set_result(answer)
