"""A lane that moves only when told, a clock that a test turns, and requests whose rows tell whose they are."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mercato_plugin import BatchPolicy, ModelSpec
from mercato_server.contract.batch import BatchResult, JoinedBatch
from mercato_server.contract.lane import Lane, NotRun
from mercato_server.errors import WorkerCrashed
from mercato_server.serving.admission import Callers, Pool
from mercato_server.serving.batcher import Batcher
from mercato_server.serving.engine import Bounds, Engine
from mercato_server.serving.process import Process
from mercato_server.serving.request import Answer, GroupKey, Request

FAR = 1e6


@dataclass(eq=False)
class Run:
    """One batch in the lane, and how it ends."""

    batch: JoinedBatch
    end: asyncio.Future[BatchResult]
    begun: bool = False
    is_recalled: bool = False


class PuppetLane:
    """Keeps every batch it is given; the first in it runs, and each run ends when the test says how.

    With a clock it refuses by itself to begin what is too late. `started` holds the batches that began, `second`
    those that were given while another one was in the lane.
    """

    def __init__(self, clock: "Clock | None" = None) -> None:
        self.batches: list[JoinedBatch] = []
        self.started: list[JoinedBatch] = []
        self.second: list[JoinedBatch] = []
        self.inside: list[Run] = []
        self.dead = False
        self._clock = clock

    async def run(self, batch: JoinedBatch) -> BatchResult:
        if self.dead:
            raise crash()
        run = Run(batch, asyncio.get_running_loop().create_future())
        self.batches.append(batch)
        if self.inside:
            self.second.append(batch)
        self.inside.append(run)
        self._begin()
        try:
            return await run.end
        finally:
            self.inside.remove(run)
            self._begin()

    def _begin(self) -> None:
        if self.dead or not self.inside or self.inside[0].begun:
            return
        run = self.inside[0]
        run.begun = True
        if run.is_recalled or (self._clock and self._clock.now / 1e9 >= (run.batch.deadline or FAR)):
            run.end.set_exception(NotRun())
            run.end.exception()  # asked for here: a test may end before its tasks do
        else:
            self.started.append(run.batch)

    def recall(self, batch: JoinedBatch) -> None:
        for run in self.inside:
            if run.batch is batch and not run.begun:
                run.is_recalled = True

    async def close(self) -> None:
        raise AssertionError("the batcher never closes its lane")

    @property
    def busy(self) -> bool:
        return bool(self.inside)

    @property
    def ids(self) -> list[float]:
        """Whose rows the batch that runs holds, or the last one when none runs."""
        return rows_of(self.inside[0].batch if self.inside else self.batches[-1])

    @property
    def prepared(self) -> list[float]:
        """Whose rows the batch behind the one that runs holds."""
        return [id for run in self.inside[1:] for id in rows_of(run.batch)]

    async def finish(self, **facts: Any) -> None:
        """End the run: output `y` holds the input's rows, unless `facts` of the result say otherwise."""
        run = self.inside[0]
        outputs: Mapping[str, Any] = {"y": run.batch.inputs["x"]}
        run.end.set_result(BatchResult(**{"outputs": outputs, **facts}))
        await settle()

    async def fail(self, error: BaseException, place: int = 0) -> None:
        self.inside[place].end.set_exception(error)
        await settle()

    async def crash(self) -> None:
        """The worker ends with all it has; whatever comes later fails at once."""
        self.dead = True
        for run in self.inside:
            if not run.end.done():
                run.end.set_exception(crash())
        await settle()


class Clock:
    """Nanoseconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)


class Scene:
    """One batcher before a puppet lane."""

    def __init__(
        self, policy: BatchPolicy, lane: PuppetLane | None = None, clock: Clock | None = None, **facts: Any
    ) -> None:
        self.lane = lane or PuppetLane()
        self.clock = clock or Clock()
        self.batcher = Batcher("shop.tiny", self.lane, policy, self.clock, **facts)

    def attach(self, lane: PuppetLane) -> None:
        self.lane = lane
        self.batcher.attach(lane)

    async def submit(self, *requests: Request) -> list[asyncio.Future[Answer]]:
        """Submit them in one turn of the loop, and let the loop come to rest."""
        futures = [self.batcher.submit(request) for request in requests]
        await settle()
        return futures


def scene(*, max_rows: int = 64, max_cost: int | None = None, **facts: Any) -> Scene:
    return Scene(BatchPolicy(max_rows=max_rows, max_cost=max_cost), **facts)


def ample(callers: Callers | None = None, max_requests: int = 10**6) -> Process:
    """A process whose pool no test fills, unless it says so."""
    return Process(Pool(max_requests=max_requests, max_bytes=10**12), callers or Callers())


def engine(spec: ModelSpec, lane: Lane, bounds: Bounds = Bounds(), **facts: Any) -> Engine:  # noqa: B008 - frozen
    """An engine before a lane, alone in its process unless `facts` say otherwise."""
    return Engine(spec.name, "d" * 64, lane, spec.batch, bounds, **{"process": ample(), **facts})


def request(id: float, rows: int = 1, *, deadline: float = FAR, group: GroupKey = (), **facts: Any) -> Request:
    """`rows` rows, each holding `id`."""
    return Request({"x": np.full((rows, 1), id)}, rows, deadline, group, **facts)


def rows_of(batch: JoinedBatch) -> list[float]:
    """Whose rows a batch holds."""
    found: list[float] = batch.inputs["x"][:, 0].tolist()
    return found


def crash() -> WorkerCrashed:
    return WorkerCrashed("the worker of shop was ended by signal SIGKILL", model="shop.tiny")


def ids(answer: Answer) -> list[float]:
    """Whose rows an answer holds."""
    found: list[float] = answer.outputs["y"][:, 0].tolist()
    return found


async def settle() -> None:
    """Let everything that is ready run; nothing in these tests needs more turns than this."""
    for _ in range(8):
        await asyncio.sleep(0)
