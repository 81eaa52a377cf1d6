"""The window of a batcher with a target: held on a free lane under load only, and ended early for good reasons."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from tests.server.serving.puppet import Scene, ids, request, settle

from mercato_plugin import BatchPolicy
from mercato_server.contract.receipt import ReleaseReason


@dataclass
class Timers:
    """Calls back when the test says that the time has come."""

    set: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def call_later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        self.set.append((seconds, call))
        return asyncio.get_running_loop().call_later(1e5, call)

    async def ring(self) -> None:
        self.set.pop()[1]()
        await settle()


class Paced:
    """A model of a flat curve under load: runs of 10 ms whatever their weight, a request every 2 ms."""

    def __init__(self, target: float = 0.2, max_rows: int = 64) -> None:
        self.timers = Timers()
        policy = BatchPolicy(max_rows=max_rows)
        self.scene = Scene(policy, call_later=self.timers.call_later, target=target)
        self.numbers = iter(range(10**6))

    async def learn(self) -> None:
        for rows in (1, 2, 1, 2, 1, 2):
            await self.scene.submit(request(next(self.numbers), rows))
            self.scene.clock.advance(0.010 + rows * 1e-5)
            await self.scene.lane.finish()

    async def busy(self, waiting: int = 2) -> list["asyncio.Future[object]"]:
        """A batch runs and others wait; then the lane comes free."""
        await self.scene.submit(request(next(self.numbers)))
        futures: list[asyncio.Future[object]] = []
        for _ in range(waiting):
            self.scene.clock.advance(0.002)
            futures += await self.scene.submit(request(next(self.numbers)))  # type: ignore[arg-type]
        self.scene.clock.advance(0.006)
        await self.scene.lane.finish()
        return futures


async def test_an_idle_lane_is_never_held() -> None:
    p = Paced()
    await p.learn()
    await p.scene.submit(request(99))
    assert p.scene.lane.ids == [99] and not p.timers.set


async def test_under_load_a_batch_waits_for_others_and_says_so() -> None:
    p = Paced()
    await p.learn()
    [first, _] = await p.busy()
    assert not p.scene.lane.busy and len(p.timers.set) == 1
    await p.scene.submit(request(50))
    await p.timers.ring()
    assert 50 in p.scene.lane.ids and len(p.scene.lane.ids) == 3
    await p.scene.lane.finish()
    receipt = first.result().receipt  # type: ignore[attr-defined]
    assert receipt.release_reason is ReleaseReason.WINDOW


async def test_a_batch_that_fills_ends_its_window() -> None:
    p = Paced(max_rows=4)
    await p.learn()
    await p.busy()
    assert not p.scene.lane.busy
    await p.scene.submit(request(50), request(51))
    assert len(p.scene.lane.ids) == 4


@pytest.mark.parametrize("facts", [{"priority": 1}, {"deadline": 0.15}], ids=["urgent", "soon due"])
async def test_who_cannot_wait_ends_the_window(facts: dict[str, float]) -> None:
    p = Paced()
    await p.learn()
    await p.busy()
    assert not p.scene.lane.busy
    if "deadline" in facts:
        facts = {"deadline": p.scene.clock.now / 1e9 + 0.005}
    await p.scene.submit(request(50, **facts))  # type: ignore[arg-type]
    assert p.scene.lane.busy


async def test_without_a_target_nothing_is_held() -> None:
    p = Paced()
    p.scene = Scene(BatchPolicy(), call_later=p.timers.call_later)
    await p.learn()
    await p.busy()
    assert p.scene.lane.busy and not p.timers.set


async def test_giving_up_in_a_window_leaves_nothing_behind() -> None:
    p = Paced()
    await p.learn()
    futures = await p.busy()
    p.scene.batcher.abandon("it was unloaded")
    await settle()
    assert all(future.exception() for future in futures)
    await asyncio.wait_for(p.scene.batcher.finished(), 1)
    [later] = await p.scene.submit(request(7))
    await p.scene.lane.finish()
    assert ids(later.result()) == [7]


async def test_a_target_bounds_the_batch_along_the_curve() -> None:
    p = Paced(target=0.1)
    for rows in (1, 2, 4, 1, 2, 4):
        await p.scene.submit(request(0, rows))
        p.scene.clock.advance(rows * 0.01)
        await p.scene.lane.finish()
    await p.scene.submit(request(0))
    await p.scene.submit(*(request(1) for _ in range(20)))
    p.scene.clock.advance(0.01)
    await p.scene.lane.finish()
    assert len(p.scene.lane.ids) == pytest.approx(5, abs=1)
    assert np.all(np.array(p.scene.lane.ids) == 1)
