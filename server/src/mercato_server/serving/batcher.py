"""One queue per model: a batch leaves at once when the lane is free, and callers join while it is busy."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import ceil

from mercato_plugin import BatchPolicy
from mercato_server.contract.lane import Lane, NotRun
from mercato_server.contract.receipt import ReleaseReason
from mercato_server.errors import Draining, RequestError, WorkerCrashed
from mercato_server.serving.batch import join, split
from mercato_server.serving.curve import Curve
from mercato_server.serving.flight import Flight
from mercato_server.serving.lines import Entry
from mercato_server.serving.pace import Pace
from mercato_server.serving.queue import ANYTHING, Allowed, Queue, alike
from mercato_server.serving.request import Answer, Request
from mercato_server.telemetry.tally import BatchTally

_SHORTEST_DRAIN = 0.01
_IN_LANE = 2

PROBE_SECONDS = 1.0
"""An estimate that no run has confirmed for so long keeps nobody out of an idle lane."""

RESERVE = 0.2
"""Share of a request's time that is kept for what estimates leave out, where it has to wait for others."""

CallLater = Callable[[float, Callable[[], None]], asyncio.TimerHandle]


class Batcher:
    """Forms batches of one model and runs them through its lane; belongs to the loop it is made in.

    While one batch runs a second may be prepared, so that the worker never waits for it; only one that has reached a
    limit is handed over for that. Any other waits for the lane to be free and callers keep joining it: handed over as
    it is, every batch would hold what came during half a run, and under load batches would be half as large. A prepared
    batch comes back when a member of it goes, or when a more urgent request comes.

    `clock` gives nanoseconds of the monotonic clock, `call_later` calls back after seconds of it. `weight_of` gives the
    share of a caller, `target` is the seconds that a request is to take. Entries whose caller has gone, or whose
    deadline has passed, are never run.
    """

    def __init__(
        self,
        model: str,
        lane: Lane,
        policy: BatchPolicy,
        clock: Callable[[], int] = time.monotonic_ns,
        *,
        call_later: CallLater | None = None,
        weight_of: Callable[[str], float] = alike,
        target: float | None = None,
    ) -> None:
        self._model = model
        self._lane = lane
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._call_later = call_later or self._loop.call_later
        self._queue = Queue(model, policy, clock, weight_of)
        self._tasks: dict[object, asyncio.Task[None]] = {}
        self._flights: list[Flight] = []  # what the lane has, in its order
        self._window: asyncio.Future[ReleaseReason] | None = None
        self._curve = Curve()
        self._pace = Pace(self._curve, target)
        self._learned = 0
        self.tally = BatchTally()

    def attach(self, lane: Lane) -> None:
        """Go on with another lane; what is in the old one ends there. Estimates, tally and limits stay."""
        self._lane = lane

    def submit(self, request: Request) -> "asyncio.Future[Answer]":
        """Queue a request. Cancelling the future takes the request out, unless it is already running."""
        entry = Entry(request, self._loop.create_future(), self._clock())
        entry.future.add_done_callback(partial(self._gone, entry))
        hurries = self._window is not None and self._queue.is_more_urgent(request)
        self._queue.add(entry)
        if self._pace.has_target:
            self._pace.arrive(request.weight)
        if not self._tasks:
            # It starts in the loop's next turn, so that requests read in this turn leave together.
            self._start()
        elif self._window is not None:
            self._hurry(request, hurries)
        elif len(self._flights) == _IN_LANE:
            if request.priority < self._flights[-1].level:
                self._flights[-1].recall()
        elif self._flights and len(self._tasks) < _IN_LANE and self._queue.just_filled(request):
            self._prepare()
        return entry.future

    def victim(self, priority: int, caller: str) -> Entry | None:
        """One that waits and deserves its place less than a request of this priority and caller; None if none does."""
        return self._queue.victim(priority, caller)

    def is_short(self) -> bool:
        """Whether all that waits fits one batch."""
        return self._queue.weight <= self._queue.batch_weight

    def displace(self, entry: Entry, error: RequestError) -> None:
        """Take one that waits out, and tell its caller why."""
        self._queue.withdraw(entry)
        _fail([entry], lambda: error)

    def is_late(self, request: Request) -> bool:
        """Whether a request that came now would miss its deadline, by what runs took so far and what is before it.

        One whose deadline has passed already is not late but expired, as the queue will find.
        """
        if not self._knows:
            return False
        left = request.deadline - self._clock() / 1e9
        if self._tasks:
            left *= 1 - RESERVE
        if left <= 0 or self._seconds(self._queue.weight + request.weight) <= left:
            return False
        return self._seconds(self._queue.ahead(request) + request.weight) > left

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
            flight.unwatch()
            self._give_up(flight.entries, why)  # now, whether or not the lane heeds that
        self._flights.clear()
        self._give_up(self._queue.clear(), why)

    def queued(self) -> int:
        """Number of requests waiting for a batch; any thread may ask."""
        return len(self._queue)

    def drain_seconds(self) -> float:
        """Estimated time until what is in the lane and in the queue now has been run; that of a run at least."""
        return max(_SHORTEST_DRAIN, self._curve.usual, self._seconds(self._queue.weight))

    @property
    def _knows(self) -> bool:
        """Whether there are estimates, and they are not too old to be believed."""
        is_old = not self._flights and self._clock() - self._learned > PROBE_SECONDS * 1e9
        return self._curve.runs > 0 and not is_old

    def _allowed(self) -> Allowed:
        """What the next batch may weigh, behind what the lane has."""
        if not self._knows:
            return replace(ANYTHING, ride=self._pace.ride)
        curve, before = self._curve, self._in_lane()
        return Allowed(self._pace.ride, lambda seconds: curve.weight(seconds - before), curve.worth)

    def _seconds(self, weight: float) -> float:
        """Estimated time until so much has been run behind what the lane has."""
        most = self._queue.batch_weight
        full = ceil(weight / most) if weight > most else 0  # others come until the last one is formed
        runs = full * self._curve.seconds(most) if full else self._curve.seconds(weight) if weight else 0.0
        return self._in_lane() + runs * (1 + self._curve.error)

    def _in_lane(self) -> float:
        now, seconds = self._clock(), 0.0
        for flight in self._flights:
            spent = (now - flight.began) / 1e9 if flight.is_running else 0.0
            # What is overdue is expected to take as long again as it is overdue already.
            seconds += abs(self._curve.seconds(flight.weight) - spent)
        return seconds

    def _gone(self, entry: Entry, _: "asyncio.Future[Answer]") -> None:
        if entry.line is not None:
            self._queue.withdraw(entry)

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
            while key in self._tasks and (flight := self._next(release)):
                self._prepare()
                await self._run(flight)
                release = await self._gathered() if self._pace.has_target else ReleaseReason.JOINED
        finally:
            self._tasks.pop(key, None)

    async def _gathered(self) -> ReleaseReason:
        """Return when the next batch may leave: at once, unless the target grants it time to grow."""
        since, weight = self._queue.next()
        waited = (self._clock() - since) / 1e9
        seconds = 0.0 if self._flights else self._pace.window(waited, weight, self._queue.batch_weight)
        if not seconds:
            return ReleaseReason.JOINED
        self._window = self._loop.create_future()
        timer = self._call_later(seconds, partial(_open, self._window))
        try:
            return await self._window
        finally:
            timer.cancel()
            self._window = None

    def _hurry(self, request: Request, hurries: bool) -> None:
        """End the window for a request that is more urgent than all that waited, fills the batch, or would be late."""
        assert self._window is not None
        if hurries or self._queue.has_full() or self.is_late(request):
            _open(self._window)

    def _next(self, release: ReleaseReason) -> Flight | None:
        """Form the batch that the lane gets next; behind another one it has to be full, and that one to stay."""
        is_second = bool(self._flights)
        if is_second and self._flights[0].is_recalled:
            return None
        if self._pace.has_target:
            self._queue.most_weight = self._pace.most_weight()
        entries, is_full = self._queue.take(is_second, self._allowed())
        if not entries:
            return None
        if self._pace.has_target:
            self._pace.took(self._clock())
        reason = _reason(entries, is_full, release)
        self.tally.release(reason.value)
        flight = Flight(entries, self._lane, reason)
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
                flight.batch = joined = join(requests)
                result = await flight.lane.run(joined)
            finally:
                self._land(flight)
            queued_ns = [flight.began - entry.since for entry in flight.entries]
            answers = split(result, requests, queued_ns, flight.release, self._model, flight.began)
        except asyncio.CancelledError:
            self._give_up(flight.entries)
            raise
        except NotRun:
            late = 0.0 if flight.is_recalled else min(request.deadline for request in requests)
            self._queue.put_back(flight.entries, late)
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
        """A joined batch that raised: its halves are run again, and theirs, until the guilty one is alone."""
        self.tally.failed += 1
        if len(flight.entries) > 1:
            self._queue.bisect(flight.entries)
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
        """Take the time in the lane's first place into the estimates."""
        self._learned = flight.ended
        self._curve.learn(flight.weight, (flight.ended - flight.began) / 1e9)


def _reason(entries: Sequence[Entry], is_full: bool, release: ReleaseReason) -> ReleaseReason:
    if entries[0].is_bisected:
        return ReleaseReason.BISECTED
    return ReleaseReason.FULL if is_full else release


def _open(window: "asyncio.Future[ReleaseReason]") -> None:
    if not window.done():
        window.set_result(ReleaseReason.WINDOW)


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
