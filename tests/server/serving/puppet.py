"""A lane that moves only when told, a clock that a test turns, and requests whose rows tell whose they are."""

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np

from mercato_plugin import BatchPolicy
from mercato_server.contract.batch import BatchResult, JoinedBatch
from mercato_server.serving.batcher import Batcher
from mercato_server.serving.request import Answer, GroupKey, Request

FAR = 1e6


class PuppetLane:
    """Keeps every batch it is given; each run ends when the test says how."""

    def __init__(self) -> None:
        self.batches: list[JoinedBatch] = []
        self._ends: list[asyncio.Future[BatchResult]] = []

    async def run(self, batch: JoinedBatch) -> BatchResult:
        self.batches.append(batch)
        self._ends.append(asyncio.get_running_loop().create_future())
        return await self._ends[-1]

    async def close(self) -> None:
        raise AssertionError("the batcher never closes its lane")

    @property
    def busy(self) -> bool:
        return bool(self._ends) and not self._ends[-1].done()

    @property
    def ids(self) -> list[float]:
        """Whose rows the last batch holds."""
        ids: list[float] = self.batches[-1].inputs["x"][:, 0].tolist()
        return ids

    async def finish(self, **facts: Any) -> None:
        """End the run: output `y` holds the input's rows, unless `facts` of the result say otherwise."""
        outputs: Mapping[str, Any] = {"y": self.batches[-1].inputs["x"]}
        self._ends[-1].set_result(BatchResult(**{"outputs": outputs, **facts}))
        await settle()

    async def fail(self, error: BaseException) -> None:
        self._ends[-1].set_exception(error)
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

    def __init__(self, policy: BatchPolicy) -> None:
        self.lane = PuppetLane()
        self.clock = Clock()
        self.batcher = Batcher("shop.tiny", self.lane, policy, self.clock)

    async def submit(self, *requests: Request) -> list[asyncio.Future[Answer]]:
        """Submit them in one turn of the loop, and let the loop come to rest."""
        futures = [self.batcher.submit(request) for request in requests]
        await settle()
        return futures


def scene(**policy: Any) -> Scene:
    return Scene(BatchPolicy(**policy))


def request(id: float, rows: int = 1, *, deadline: float = FAR, group: GroupKey = (), **facts: Any) -> Request:
    """`rows` rows, each holding `id`."""
    return Request({"x": np.full((rows, 1), id)}, rows, deadline, group, **facts)


def ids(answer: Answer) -> list[float]:
    """Whose rows an answer holds."""
    found: list[float] = answer.outputs["y"][:, 0].tolist()
    return found


async def settle() -> None:
    """Let everything that is ready run; nothing in these tests needs more turns than this."""
    for _ in range(8):
        await asyncio.sleep(0)
