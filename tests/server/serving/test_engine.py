"""The engine: who is let in, who has to go, what is told to whom, and that nothing is run in vain."""

import asyncio
from functools import partial
from typing import Any

import pytest
from tests.server.serving.puppet import FAR, Clock, PuppetLane, ample, engine, ids, request, settle

from mercato_plugin import BatchPolicy, ModelSpec, Tensor
from mercato_server.errors import DeadlineUnreachable, Overloaded, QuotaExceeded
from mercato_server.serving.admission import Callers
from mercato_server.serving.engine import Bounds
from mercato_server.serving.request import Answer, Request

X = Tensor("float64", ("batch", 1))


class House:
    """One engine before a puppet lane, with a clock of its own; permits go back as answers go out."""

    def __init__(self, *, max_rows: int = 1, chance: float = 0.0, bounds: Bounds = Bounds(), **facts: Any) -> None:  # noqa: B008 - frozen
        spec = ModelSpec(name="shop.tiny", inputs={"x": X}, outputs={"y": X}, batch=BatchPolicy(max_rows=max_rows))
        self.clock, self.lane = Clock(), PuppetLane()
        self.engine = engine(spec, self.lane, bounds, clock=self.clock, chance=lambda: chance, **facts)

    def ask(self, id: int = 0, **facts: Any) -> "asyncio.Future[Answer]":
        made: Request = request(id, **facts)
        future = self.engine.submit(made)
        future.add_done_callback(partial(_released, made))
        return future

    async def learn(self, seconds: float = 1.0) -> None:
        """One run of so many seconds."""
        future = self.ask()
        await settle()
        self.clock.advance(seconds)
        await self.lane.finish()
        assert future.done()

    @property
    def now(self) -> float:
        return self.clock.now / 1e9


def _released(made: Request, future: "asyncio.Future[Answer]") -> None:
    if made.permit is not None:  # known rows need none
        made.permit.release()
    if not future.cancelled():
        future.exception()  # not every test asks for it


async def test_the_supply_of_a_model_is_bounded_and_the_drain_is_told() -> None:
    house = House(bounds=Bounds(max_requests=3))
    await house.learn(2.0)
    for _ in range(3):
        house.ask()
    await settle()
    with pytest.raises(
        Overloaded, match="model 'shop.tiny' has 3 requests in flight, its limit; retry later"
    ) as caught:
        house.ask()
    assert caught.value.retry_after == pytest.approx(6.0)
    assert not caught.value.is_final and caught.value.model == "shop.tiny"
    assert house.engine.refused == {"OVERLOADED": 1}


async def test_the_supply_of_the_process_is_bounded_across_models() -> None:
    process = ample(max_requests=2)
    first, second = House(process=process), House(process=process)
    first.ask()
    second.ask()
    await settle()
    for house in (first, second):
        with pytest.raises(Overloaded, match="the server has 2 requests in flight, its limit"):
            house.ask()
    await first.lane.finish()
    await settle()
    second.ask()


async def test_a_flooded_model_gives_way_to_another_one_and_never_to_its_equal() -> None:
    process = ample(max_requests=10)
    flooded, small = House(process=process), House(process=process)
    flood = [flooded.ask(id) for id in range(10)]
    await settle()
    mine = [small.ask(id, caller="other") for id in range(4)]
    displaced = [future for future in flood if future.done()]
    assert len(displaced) == 4 and all(isinstance(future.exception(), Overloaded) for future in displaced)
    assert process.pool.requests == 10
    mine.append(small.ask(9, caller="other"))
    with pytest.raises(Overloaded):
        small.ask(10, caller="other")
    await settle()
    while small.lane.busy:
        await small.lane.finish()
    assert all(future.done() and not future.exception() for future in mine)


async def test_the_time_to_come_back_is_that_of_who_holds_the_places() -> None:
    process = ample(Callers(quotas={"slow": 2}), max_requests=3)
    slow, idle = House(process=process), House(process=process)
    await slow.learn(50.0)
    for _ in range(2):
        slow.ask(caller="slow", deadline=FAR)
    await settle()
    with pytest.raises(QuotaExceeded) as quota:
        idle.ask(caller="slow", deadline=FAR)
    slow.ask(deadline=FAR)
    with pytest.raises(Overloaded) as full:
        slow.ask(deadline=FAR)
    assert quota.value.retry_after == pytest.approx(100.0) and full.value.retry_after == pytest.approx(150.0)


async def test_bytes_are_bounded_too() -> None:
    house = House(bounds=Bounds(max_bytes=100))
    house.ask(nbytes=60)
    with pytest.raises(Overloaded, match="60 bytes of requests in flight, 50 more would pass its limit of 100"):
        house.ask(nbytes=50)
    house.ask(nbytes=40)


async def test_refused_callers_are_not_told_to_come_back_all_at_once() -> None:
    times = []
    for chance in (0.0, 1.0):
        house = House(bounds=Bounds(max_requests=1), chance=chance)
        await house.learn(2.0)
        house.ask()
        await settle()
        with pytest.raises(Overloaded) as caught:
            house.ask()
        times.append(caught.value.retry_after)
    assert times == pytest.approx([2.0, 2.5])


async def test_a_retry_within_the_call_is_no_use_once_the_drain_takes_longer() -> None:
    house = House(bounds=Bounds(max_requests=2))
    await house.learn(2.0)
    house.ask(deadline=FAR)
    house.ask(deadline=FAR)
    await settle()
    with pytest.raises(Overloaded) as caught:
        house.ask(deadline=house.now + 100.0)
    assert not caught.value.is_final
    house.engine.batcher._curve.error = 0.0
    with pytest.raises(Overloaded) as caught:
        house.ask(deadline=house.now + 3.9, priority=9)
    assert caught.value.is_final and caught.value.retry_after == pytest.approx(4.0)


async def test_who_cannot_be_answered_in_time_is_refused_at_the_door() -> None:
    house = House()
    await house.learn(1.0)
    for _ in range(3):
        house.ask(deadline=FAR)
    await settle()
    house.ask(deadline=house.now + 4.0)
    text = "'shop.tiny': 4 s until the deadline, .* nothing was run"
    with pytest.raises(DeadlineUnreachable, match=text) as caught:
        house.ask(deadline=house.now + 4.0, urgency=house.now + 9.0)
    assert caught.value.is_final and caught.value.retry_after is not None and caught.value.retry_after >= 4
    assert house.engine.refused == {"DEADLINE_UNREACHABLE": 1}
    assert house.engine.pool.requests == 4


async def test_what_is_due_later_or_less_urgent_is_not_held_against_a_request() -> None:
    house = House()
    await house.learn(1.0)
    for _ in range(50):
        house.ask(deadline=FAR)
    await settle()
    soon = house.ask(7, deadline=house.now + 4.5)
    urgent = house.ask(8, deadline=house.now + 4.5, priority=1)
    await house.lane.finish()
    assert house.lane.ids == [8]
    await house.lane.finish()
    await house.lane.finish()
    await house.lane.finish()
    assert (ids(urgent.result()), ids(soon.result())) == ([8], [7])


async def test_an_idle_model_is_tried_again_though_its_estimate_says_no() -> None:
    house = House()
    await house.learn(5.0)
    with pytest.raises(DeadlineUnreachable):
        house.ask(deadline=house.now + 2.0)
    house.clock.advance(1.5)
    future = house.ask(3, deadline=house.now + 2.0)
    await settle()
    house.clock.advance(0.5)
    await house.lane.finish()
    assert ids(future.result()) == [3]


async def test_nothing_is_refused_before_anything_was_measured() -> None:
    house = House()
    for _ in range(20):
        house.ask(deadline=0.001)
    assert house.engine.pool.requests == 20


async def test_a_more_urgent_request_takes_the_place_of_a_less_urgent_one() -> None:
    house = House(bounds=Bounds(max_requests=3))
    low = [house.ask(id, priority=9) for id in range(3)]
    await settle()
    urgent = house.ask(9, priority=1)
    assert isinstance(low[2].exception(), Overloaded)
    with pytest.raises(Overloaded, match=r"took the place of this one; nothing was run, retry later"):
        low[2].result()
    assert house.engine.pool.requests == 3
    await settle()
    assert house.engine.pool.requests == 3
    await house.lane.finish()
    assert house.lane.ids == [9]
    while house.lane.busy:
        await house.lane.finish()
    assert ids(urgent.result()) == [9] and house.engine.pool.requests == 0


async def test_a_flood_cannot_keep_another_caller_out() -> None:
    house = House(bounds=Bounds(max_requests=8))
    flood = [house.ask(id, caller="flood") for id in range(8)]
    await settle()
    polite = house.ask(99, caller="polite")
    assert sum(future.done() and isinstance(future.exception(), Overloaded) for future in flood) == 1
    for _ in range(3):
        with pytest.raises(Overloaded):
            house.ask(caller="flood")
    while house.lane.busy:
        await house.lane.finish()
    assert ids(polite.result()) == [99]


async def test_nobody_is_displaced_in_vain() -> None:
    house = House(bounds=Bounds(max_bytes=100))
    for nbytes in (10, 60):
        house.ask(priority=9, nbytes=nbytes)
    await settle()
    low = house.ask(priority=9, nbytes=30)
    with pytest.raises(Overloaded):
        house.ask(2, priority=1, nbytes=90)
    assert not low.done() and house.engine.batcher.queued() == 1
    urgent = house.ask(3, priority=1, nbytes=30)
    await settle()
    assert not urgent.done() and house.engine.pool.bytes <= 100


async def test_what_is_overdue_is_expected_to_take_as_long_again() -> None:
    house = House()
    await house.learn(1.0)
    house.ask(deadline=FAR)
    await settle()
    house.clock.advance(4.0)
    with pytest.raises(DeadlineUnreachable):
        house.ask(deadline=house.now + 3.0)
    house.ask(deadline=house.now + 5.0)


async def test_what_runs_already_gives_up_no_place() -> None:
    house = House(bounds=Bounds(max_requests=1))
    house.ask(priority=9)
    await settle()
    with pytest.raises(Overloaded):
        house.ask(priority=1)
    assert house.lane.busy


async def test_a_part_that_is_displaced_ends_its_whole_request() -> None:
    house = House(bounds=Bounds(max_requests=2), max_rows=4)
    house.ask(0, priority=9)
    large = house.ask(1, rows=12, priority=9)
    await settle()
    house.ask(2, priority=1)
    await settle()
    assert isinstance(large.exception(), Overloaded)
    assert house.engine.pool.requests == 2 and house.engine.batcher.queued() <= 1
    while house.lane.busy:
        await house.lane.finish()


async def test_a_quota_bounds_a_caller_over_all_models() -> None:
    callers = Callers(quotas={"orders": 2})
    process = ample(callers)
    first, second = House(process=process), House(process=process)
    first.ask(caller="orders")
    second.ask(caller="orders")
    with pytest.raises(QuotaExceeded, match="the caller has 2 requests in flight, its quota"):
        first.ask(caller="orders")
    first.ask(caller="search")
    assert first.engine.refused == {"QUOTA_EXCEEDED": 1}
    await settle()
    await second.lane.finish()
    await settle()
    first.ask(caller="orders")


async def test_known_rows_need_no_run_and_no_time() -> None:
    house = House(bounds=Bounds(cache_bytes=10**6))
    await house.learn(5.0)
    again = house.ask(deadline=house.now + 0.1)
    assert ids(again.result()) == [0] and len(house.lane.batches) == 1
    with pytest.raises(DeadlineUnreachable):
        house.ask(1, deadline=house.now + 0.1)
    assert house.engine.pool.requests == 0


async def test_known_rows_displace_nobody_and_are_answered_by_a_full_model() -> None:
    house = House(bounds=Bounds(max_requests=1, cache_bytes=10**6))
    await house.learn(1.0)
    waiting = house.ask(1, priority=9)
    await settle()
    assert ids(house.ask(0, priority=1).result()) == [0]
    assert not waiting.done() and house.engine.pool.requests == 1


async def test_what_raises_on_its_way_in_leaves_no_permit_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()

    def broken(request: Request) -> "asyncio.Future[Answer]":
        raise RuntimeError("out of luck")

    monkeypatch.setattr(house.engine.batcher, "submit", broken)
    with pytest.raises(RuntimeError):
        house.ask()
    assert house.engine.pool.requests == 0
