"""One version's way from a request to its answer: quota, deadline, permits, known rows, parts, the batcher."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from mercato_plugin import BatchPolicy
from mercato_server.contract.lane import Lane
from mercato_server.errors import DeadlineUnreachable, Overloaded, QuotaExceeded, RequestError
from mercato_server.serving.admission import Callers, Permit, Pool
from mercato_server.serving.batcher import Batcher
from mercato_server.serving.cache import RowCache
from mercato_server.serving.parts import Parts, cut
from mercato_server.serving.request import DEFAULT_PRIORITY, Answer, Request

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
    """Answers requests of one version. `process` counts those of all models, `callers` those of each caller.

    `clock` gives nanoseconds of the monotonic clock, `chance` numbers from 0 to 1.
    """

    def __init__(
        self,
        model: str,
        digest: str,
        lane: Lane,
        policy: BatchPolicy,
        bounds: Bounds,
        process: Pool,
        callers: Callers,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._model = model
        self._policy = policy
        self._clock = clock
        self._chance = chance
        self._callers = callers
        self.digest = digest
        self.priority = bounds.priority
        self.pool = Pool(max_requests=bounds.max_requests, max_bytes=bounds.max_bytes)
        self._pools = (self.pool, process)
        self.refused: dict[str, int] = {}
        self.batcher = Batcher(model, lane, policy, clock, weight_of=callers.weight, target=bounds.latency_target)
        self.cache = RowCache(model, digest, bounds.cache_bytes, self._run) if bounds.cache_bytes else None

    def submit(self, request: Request) -> "asyncio.Future[Answer]":
        """Accept a request: its permit is to be released once its answer has gone out.

        Cancelling the future takes the request back, unless it is already running. Raises QuotaExceeded,
        DeadlineUnreachable or Overloaded.
        """
        if self._callers.is_over(request.caller):
            raise self._refusal(QuotaExceeded, self._quota_text(request), request)
        if self.cache is None:
            self._check_deadline(request)
        self._make_room(request)
        request.permit = Permit(self._pools, self._callers, request.caller, request.nbytes)
        return self._run_whole(request) if self.cache is None else self.cache.submit(request)

    def abandon(self, why: str) -> None:
        """Give up on what waits and what runs: its callers get Draining, with `why` for people."""
        self.batcher.abandon(why)

    def _run(self, request: Request) -> "asyncio.Future[Answer]":
        """Run what the cache does not know; a refusal comes in the future."""
        try:
            self._check_deadline(request)
        except DeadlineUnreachable as error:
            future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            future.set_exception(error)
            return future
        return self._run_whole(request)

    def _run_whole(self, request: Request) -> "asyncio.Future[Answer]":
        """In one batch if it fits one."""
        policy = self._policy
        if request.rows <= policy.max_rows and (policy.max_cost is None or request.cost <= policy.max_cost):
            return self.batcher.submit(request)
        slices = cut(request, policy)
        return self.batcher.submit(request) if len(slices) == 1 else Parts(request, slices, self.batcher.submit).future

    def _check_deadline(self, request: Request) -> None:
        if self.batcher.is_late(request):
            left = request.deadline - self._clock() / 1e9
            text = (
                f"model {self._model!r}: {left:.3g} s until the deadline, and what is before the request takes longer; "
                "nothing was run, retry later or with a longer deadline"
            )
            raise self._refusal(DeadlineUnreachable, text, request)

    def _make_room(self, request: Request) -> None:
        """Have what deserves its place less give it up, if that is enough. Raises Overloaded."""
        for pool in self._pools:
            if (lack := pool.lacks(request.nbytes)) and not self._displace(pool, request):
                whose = f"model {self._model!r}" if pool is self.pool else "the server"
                raise self._refusal(Overloaded, f"{whose} has {lack}; retry later", request)

    def _displace(self, pool: Pool, request: Request) -> bool:
        """Whether one that waits for this model has made room; it stays if that would not be enough."""
        victim = self.batcher.victim(request)
        permit = None if victim is None else victim.request.permit
        if victim is None or permit is None or pool.lacks(request.nbytes, permit):
            return False
        self.batcher.displace(victim, self._displacement(victim.request))
        permit.release()
        return True

    def _displacement(self, victim: Request) -> RequestError:
        text = (
            f"model {self._model!r} is full, and a request that was more urgent, or of a caller who had less waiting,"
        )
        return self._refusal(Overloaded, f"{text} took the place of this one; nothing was run, retry later", victim)

    def _quota_text(self, request: Request) -> str:
        quota = self._callers.quota(request.caller)
        return f"the caller has {quota} requests in flight, its quota; retry when one of them was answered"

    def _refusal(self, kind: type[Overloaded], text: str, request: Request) -> Overloaded:
        """The error, with the time to come back; within the call's own time that is no use if it would be over then."""
        self.refused[kind.reason] = self.refused.get(kind.reason, 0) + 1
        seconds = self.batcher.drain_seconds() * (1 + JITTER * self._chance())
        is_over = self._clock() / 1e9 + seconds >= request.deadline
        is_final = is_over or kind is DeadlineUnreachable
        return kind(text, model=self._model, retry_after=seconds, is_final=is_final)
