"""One queue per model: a batch leaves at once when the lane is free, and callers join while it is busy."""

import asyncio
import time
from collections.abc import Callable, Sequence

from mercato_plugin import BatchPolicy
from mercato_server.contract.lane import Lane, NotRun
from mercato_server.contract.receipt import ReleaseReason
from mercato_server.errors import Draining, RequestError, WorkerCrashed
from mercato_server.serving.batch import join, split
from mercato_server.serving.flight import Flight
from mercato_server.serving.queue import Queue
from mercato_server.serving.request import Answer, Entry, Request
from mercato_server.telemetry.tally import BatchTally

_SHORTEST_DRAIN = 0.01
_IN_LANE = 2


class Batcher:
    """Forms batches of one model and runs them through its lane; belongs to the loop it is made in.

    While one batch runs a second may be prepared, so that the worker never waits for it; only one that has reached a
    limit is handed over for that. Any other waits for the lane to be free and callers keep joining it: handed over as
    it is, every batch would hold what came during half a run, and under load batches would be half as large.

    `clock` gives nanoseconds of the monotonic clock. Entries whose caller has gone or whose deadline
    has passed are dropped when a batch is formed and never run.
    """

    def __init__(
        self, model: str, lane: Lane, policy: BatchPolicy, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._model = model
        self._lane = lane
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._queue = Queue(model, policy, clock)
        self._tasks: dict[object, asyncio.Task[None]] = {}
        self._flights: list[Flight] = []  # what the lane has, in its order
        self.batch_seconds = 0.0
        self.tally = BatchTally()

    def attach(self, lane: Lane) -> None:
        """Go on with another lane; what is in the old one ends there. Estimates, tally and limits stay."""
        self._lane = lane

    def submit(self, request: Request) -> "asyncio.Future[Answer]":
        """Queue a request. Cancelling the future takes the request out, unless it is already running."""
        entry = Entry(request, self._loop.create_future(), self._clock())
        self._queue.add(entry)
        if not self._tasks:
            # It starts in the loop's next turn, so that requests read in this turn leave together.
            self._start()
        elif self._flights and len(self._tasks) < _IN_LANE and self._queue.just_filled(request):
            self._prepare()
        return entry.future

    async def finished(self) -> None:
        """Return when nothing is queued and nothing runs; new requests must have been stopped before."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    def abandon(self, why: str) -> None:
        """Give up on what waits and what runs: its callers get Draining, with `why` for people.

        The lane may still be busy with the run.
        """
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()  # a task may end before it ever began
        for flight in self._flights:
            flight.unwatch()  # its task is cancelled already, once
            self._give_up(flight.entries, why)  # now, whether or not the lane heeds that
        self._flights.clear()
        self._give_up(self._queue.clear(), why)

    def queued(self) -> int:
        """Number of requests waiting for a batch; any thread may ask."""
        return len(self._queue)

    def drain_seconds(self) -> float:
        """Estimated time until what is queued now has been run, retries one by one; 10 ms at least."""
        return max(_SHORTEST_DRAIN, self.batch_seconds * (max(1, len(self._flights)) + self._queue.batches()))

    def _start(self) -> None:
        key = object()
        self._tasks[key] = self._loop.create_task(self._work(key))

    def _prepare(self) -> None:
        """Have a second batch handed over if the one whose turn it is seems to be full."""
        if len(self._tasks) < _IN_LANE and self._queue.has_full():
            self._start()

    async def _work(self, key: object) -> None:
        """Run batch after batch until none may leave; each is formed in the very turn in which the lane gets it."""
        release = ReleaseReason.IDLE
        try:
            while (task := self._tasks.get(key)) and (flight := self._next(task, release)):
                self._prepare()
                await self._run(flight)
                release = ReleaseReason.JOINED
        finally:
            self._tasks.pop(key, None)

    def _next(self, task: "asyncio.Task[None]", release: ReleaseReason) -> Flight | None:
        """Form the batch that the lane gets next; behind another one it has to be full."""
        is_second = bool(self._flights)
        entries, is_full = self._queue.take(is_second)
        if not entries:
            return None
        reason = _reason(entries, is_full, release)
        self.tally.release(reason.value)
        flight = Flight(entries, self._lane, reason, task)
        self._flights.append(flight)
        if is_second:
            flight.prepare()
        else:
            flight.begin(self._clock())
        return flight

    async def _run(self, flight: Flight) -> None:
        """Run one batch and settle its members, whatever becomes of it."""
        requests = [entry.request for entry in flight.entries]
        try:
            try:
                joined = join(requests)
                result = await flight.lane.run(joined)
            finally:
                self._land(flight)
            queued_ns = [flight.began - entry.since for entry in flight.entries]
            answers = split(result, requests, queued_ns, flight.release, self._model, flight.began)
        except asyncio.CancelledError:
            if not flight.is_dropped or flight.task.cancelling():
                self._give_up(flight.entries)
                raise
        except NotRun:
            self._queue.put_back(flight.entries, late=min(request.deadline for request in requests))
        except WorkerCrashed as error:
            self._crashed(flight, error)
        except Exception as error:
            self._failed(flight, error)
        else:
            phases_ns = (result.pre_ns, result.compute_ns, result.post_ns)
            self.tally.ran(queued_ns, phases_ns, joined.rows, result.padding)
            _settle(flight.entries, answers)
            self._learn(flight)

    def _land(self, flight: Flight) -> None:
        """Take it out of the lane's account; the batch that was prepared behind it runs now."""
        now = self._clock()
        flight.end(now)
        if flight in self._flights:  # unless it has been given up
            self._flights.remove(flight)
        if self._flights:
            self._flights[0].begin(now)

    def _failed(self, flight: Flight, error: Exception) -> None:
        """A joined batch that raised: each member is run once alone, so that only the guilty one fails."""
        self.tally.failed += 1
        self._learn(flight)
        if len(flight.entries) > 1:
            self._queue.add_alone(flight.entries)
        elif not flight.entries[0].future.done():
            flight.entries[0].future.set_exception(error)

    def _crashed(self, flight: Flight, error: WorkerCrashed) -> None:
        """What the worker had may have run, and one of them may have ended it: nothing is run a second time.

        What waits fails with it, unless another lane has taken over meanwhile.
        """
        self.tally.failed += 1
        had = error.may_have_run
        _fail(flight.entries, lambda: WorkerCrashed(error.message, model=self._model, may_have_run=had))
        if flight.lane is self._lane:
            text = f"model {self._model!r}: its worker ended before the request's turn came"
            _fail(self._queue.clear(), lambda: WorkerCrashed(text, model=self._model, may_have_run=False))

    def _give_up(self, entries: Sequence[Entry], why: str = "the server is stopping") -> None:
        text = f"model {self._model!r}: {why}; the server did not wait for this request any longer"
        _fail(entries, lambda: Draining(text, model=self._model))

    def _learn(self, flight: Flight) -> None:
        """Running mean of a batch's time in the lane's first place, for the pushback of refused requests."""
        seconds = (flight.ended - flight.began) / 1e9
        self.batch_seconds += (0.2 if self.batch_seconds else 1.0) * (seconds - self.batch_seconds)


def _reason(entries: Sequence[Entry], is_full: bool, release: ReleaseReason) -> ReleaseReason:
    if entries[0].alone:
        return ReleaseReason.ALONE
    return ReleaseReason.FULL if is_full else release


def _settle(entries: Sequence[Entry], answers: Sequence[Answer | RequestError]) -> None:
    for entry, answer in zip(entries, answers, strict=True):
        if entry.future.done():
            continue
        if isinstance(answer, RequestError):
            entry.future.set_exception(answer)
        else:
            entry.future.set_result(answer)


def _fail(entries: Sequence[Entry], made: Callable[[], RequestError]) -> None:
    """Each gets an error of its own: one that is raised in many places collects the traceback of each."""
    for entry in entries:
        if not entry.future.done():
            entry.future.set_exception(made())
            entry.future.exception()  # asked for here: its caller may have ended before it
