"""One queue per model: a batch leaves at once when the lane is free, and callers join while it is busy."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from mercato_plugin import BatchPolicy
from mercato_server.contract.batch import BatchResult
from mercato_server.contract.lane import Lane
from mercato_server.contract.receipt import ReleaseReason
from mercato_server.errors import DeadlineExpired, RequestError
from mercato_server.serving.batch import join, split
from mercato_server.serving.request import Answer, Entry, GroupKey, Request


class Batcher:
    """Forms batches of one model and runs them, one at a time, through its lane.

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
        self._groups: dict[GroupKey, deque[Entry]] = {}
        self._retries: deque[Entry] = deque()
        self._running: asyncio.Task[None] | None = None
        self._launch_planned = False
        self.batch_seconds = 0.0

    def submit(self, request: Request) -> "asyncio.Future[Answer]":
        """Queue a request. Cancelling the future takes the request out, unless it is already running."""
        loop = asyncio.get_running_loop()
        entry = Entry(request, loop.create_future(), self._clock())
        self._groups.setdefault(request.group, deque()).append(entry)
        if self._running is None and not self._launch_planned:
            # Deferred to the loop's next turn, so that requests read in this turn leave together.
            self._launch_planned = True
            loop.call_soon(self._launch, ReleaseReason.IDLE)
        return entry.future

    async def finished(self) -> None:
        """Return when nothing is queued and nothing runs; new requests must have been stopped before."""
        while self._launch_planned or self._running is not None:
            if self._running is not None:
                await asyncio.wait([self._running])
            else:
                await asyncio.sleep(0)

    def queued(self) -> int:
        """Number of requests waiting."""
        return len(self._retries) + sum(map(len, self._groups.values()))

    def drain_seconds(self) -> float:
        """Estimated time until what is queued now has been run."""
        rows = sum(entry.request.rows for group in self._groups.values() for entry in group)
        return self.batch_seconds * (1 + rows / self._policy.max_rows)

    def _launch(self, release: ReleaseReason) -> None:
        self._launch_planned = False
        entries, full = self._next_entries()
        if not entries:
            self._running = None
            return
        if entries[0].alone:
            release = ReleaseReason.ALONE
        elif full:
            release = ReleaseReason.FULL
        self._running = asyncio.get_running_loop().create_task(self._run(entries, release))

    async def _run(self, entries: Sequence[Entry], release: ReleaseReason) -> None:
        started = self._clock()
        requests = [entry.request for entry in entries]
        try:
            result = await self._lane.run(join(requests))
        except Exception as error:
            self._failed(entries, error)
        else:
            self._answer(entries, result, [started - entry.since for entry in entries], release)
        self._learn((self._clock() - started) / 1e9)
        self._launch(ReleaseReason.JOINED)

    def _answer(
        self, entries: Sequence[Entry], result: BatchResult, queued_ns: Sequence[int], release: ReleaseReason
    ) -> None:
        answers = split(result, [entry.request for entry in entries], queued_ns, release, self._model)
        for entry, answer in zip(entries, answers, strict=True):
            if entry.future.done():
                continue
            if isinstance(answer, RequestError):
                entry.future.set_exception(answer)
            else:
                entry.future.set_result(answer)

    def _failed(self, entries: Sequence[Entry], error: Exception) -> None:
        """A joined batch that raised: each member is run once alone, so that only the guilty one fails."""
        if len(entries) > 1:
            for entry in entries:
                entry.alone = True
            self._retries.extend(entries)
        elif not entries[0].future.done():
            entries[0].future.set_exception(error)

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
                group.popleft()
                continue
            rows += entry.request.rows
            cost += entry.request.cost
            if taken and self._passes_limit(rows, cost):
                return taken, True
            taken.append(group.popleft())
        return taken, False

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

    def _learn(self, seconds: float) -> None:
        """Running mean of a batch's time, for the pushback of refused requests."""
        self.batch_seconds += 0.2 * (seconds - self.batch_seconds)
