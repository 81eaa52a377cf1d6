"""One version's way from a request to its answer: quota, deadline, permits, known rows, parts, the batcher."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from mercato_plugin import BatchPolicy
from mercato_server.contract.lane import Lane
from mercato_server.errors import DeadlineUnreachable, Overloaded, QuotaExceeded, RequestError
from mercato_server.serving.admission import Pool
from mercato_server.serving.batcher import Batcher
from mercato_server.serving.cache import RowCache
from mercato_server.serving.parts import Parts, cut
from mercato_server.serving.process import Process
from mercato_server.serving.request import DEFAULT_PRIORITY, Answer, Request, Submit

JITTER = 0.25
"""Refused callers are told to come back within this share of time after the queue has drained, not all at once."""


@dataclass(frozen=True)
class Bounds:
    """What one model may hold and is to reach.

    `priority` is that of a request which names none. `latency_target` is in seconds; `cache_bytes` of 0 is no cache.
    """

    max_requests: int = 1024
    max_bytes: int = 256 * 1024 * 1024
    priority: int = DEFAULT_PRIORITY
    latency_target: float | None = None
    cache_bytes: int = 0


class Engine:
    """Answers requests of one version, as one of several in a process.

    `clock` gives nanoseconds of the monotonic clock, `chance` numbers from 0 to 1.
    """

    def __init__(
        self,
        model: str,
        digest: str,
        lane: Lane,
        policy: BatchPolicy,
        bounds: Bounds,
        process: Process,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._model = model
        self._policy = policy
        self._clock = clock
        self._chance = chance
        self._process = process
        self.digest = digest
        self.priority = bounds.priority
        self.pool = Pool(max_requests=bounds.max_requests, max_bytes=bounds.max_bytes)
        self.refused: dict[str, int] = {}
        shares = process.callers
        self.batcher = Batcher(model, lane, policy, clock, weight_of=shares.weight, target=bounds.latency_target)
        self.cache: RowCache | None = None
        if bounds.cache_bytes:
            self.cache = RowCache(model, digest, bounds.cache_bytes, self._run, self.batcher.is_short)
        process.enter(self)

    def submit(self, request: Request) -> "asyncio.Future[Answer]":
        """Accept a request: the permit that it gets is to be released once its answer has gone out.

        One whose rows are all known is answered without a permit. Cancelling the future takes the request back, unless
        it is already running. Raises QuotaExceeded, DeadlineUnreachable or Overloaded.
        """
        if self.cache is None:
            self._admit(request)
            return self._released_on_error(request, self._run)
        call = self.cache.begin(request)
        if call.future.done():
            return call.future
        self._admit(request)
        cache = self.cache
        return self._released_on_error(request, lambda _: cache.run(call))

    def drain_seconds(self) -> float:
        """Estimated time until what the model has now has been run."""
        return self.batcher.drain_seconds()

    def displace(self, priority: int, caller: str, pool: Pool, nbytes: int) -> bool:
        """Whether one that waits has made room in a pool for such a request; it stays if that would not be enough."""
        victim = self.batcher.victim(priority, caller)
        permit = None if victim is None else victim.request.permit
        if victim is None or permit is None or not permit.is_held or pool.lacks(nbytes, permit):
            return False
        self.batcher.displace(victim, self._displacement(victim.request))
        permit.release()
        return True

    def abandon(self, why: str) -> None:
        """Give up on what waits and what runs: its callers get Draining, with `why` for people."""
        self.batcher.abandon(why)

    def _admit(self, request: Request) -> None:
        callers = self._process.callers
        if callers.is_over(request.caller):
            text = f"the caller has {callers.quota(request.caller)} requests in flight, its quota"
            text += "; retry when one of them was answered"
            raise self._refusal(QuotaExceeded, text, request, self._process.drain_seconds())
        self._check_deadline(request)
        self._make_room(request)
        request.permit = self._process.permit(self.pool, request)

    def _released_on_error(self, request: Request, run: Submit) -> "asyncio.Future[Answer]":
        try:
            return run(request)
        except BaseException:
            assert request.permit is not None
            request.permit.release()
            raise

    def _run(self, request: Request) -> "asyncio.Future[Answer]":
        """In one batch if it fits one."""
        policy = self._policy
        if request.rows <= policy.max_rows and (policy.max_cost is None or request.cost <= policy.max_cost):
            return self.batcher.submit(request)
        slices = cut(request, policy)
        if len(slices) == 1:  # one row that alone passes a limit
            return self.batcher.submit(request)
        return Parts(request, slices, self.batcher.submit, model=self._model).future

    def _check_deadline(self, request: Request) -> None:
        if self.batcher.is_late(request):
            left = request.deadline - self._clock() / 1e9
            text = (
                f"model {self._model!r}: {left:.3g} s until the deadline, and what is before the request takes longer; "
                "nothing was run, retry later or with a longer deadline"
            )
            raise self._refusal(DeadlineUnreachable, text, request, self.drain_seconds())

    def _make_room(self, request: Request) -> None:
        """Have what deserves its place less give it up, if that is enough. Raises Overloaded."""
        own, shared = self.pool, self._process.pool
        if (lack := own.lacks(request.nbytes)) and not self._displaces(request, own):
            text = f"model {self._model!r} has {lack}; retry later"
            raise self._refusal(Overloaded, text, request, self.drain_seconds())
        if (lack := shared.lacks(request.nbytes)) and not (
            self._displaces(request, shared) or self._process.displace(self, request)
        ):
            raise self._refusal(
                Overloaded, f"the server has {lack}; retry later", request, self._process.drain_seconds()
            )

    def _displaces(self, request: Request, pool: Pool) -> bool:
        return self.displace(request.priority, request.caller, pool, request.nbytes)

    def _displacement(self, victim: Request) -> RequestError:
        ran = "nothing was run" if victim.places is None else "this part of it was not run"
        text = (
            f"model {self._model!r}: a request that was more urgent, or of a caller or model with less waiting, "
            f"took the place of this one; {ran}, retry later"
        )
        return self._refusal(Overloaded, text, victim, self.drain_seconds())

    def _refusal(self, kind: type[Overloaded], text: str, request: Request, drain: float) -> Overloaded:
        """The error, with the time to come back; within the call's own time that is no use if it would be over then."""
        self.refused[kind.reason] = self.refused.get(kind.reason, 0) + 1
        seconds = drain * (1 + JITTER * self._chance())
        is_over = self._clock() / 1e9 + seconds >= request.deadline
        is_final = is_over or kind is DeadlineUnreachable
        return kind(text, model=self._model, retry_after=seconds, is_final=is_final)
