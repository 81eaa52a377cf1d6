"""Calls that arrive close together go on in one turn; a lone call does not wait at all."""

import asyncio
from itertools import pairwise

from mercato_server.rpc.gathering import LARGEST, LONGEST_QUIET, Gathering


class Calls:
    """Calls through one gathering; `went[n]` is the turn of the loop in which call n went on, None before."""

    def __init__(self) -> None:
        self.gathering = Gathering()
        self.turn = 0
        self.went: list[int | None] = []
        self.answered = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    def is_on_its_way(self, number: int) -> bool:
        return self.went[number] is not None

    async def arrive(self, count: int = 1, *, apart: int = 0) -> None:
        for _ in range(count):
            self.tasks.append(asyncio.create_task(self._call(len(self.went))))
            self.went.append(None)
            await self.turns(apart)

    async def turns(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)
            self.turn += 1

    async def answer(self) -> None:
        self.answered.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.answered.clear()

    async def _call(self, number: int) -> None:
        self.gathering.enter()
        await self.gathering.turn()
        self.went[number] = self.turn
        await self.answered.wait()
        self.gathering.leave()


async def test_a_lone_call_goes_on_at_once() -> None:
    calls = Calls()

    await calls.arrive()
    await calls.turns(1)

    assert calls.went == [0]


async def test_calls_of_neighbouring_turns_go_on_in_the_same_turn() -> None:
    calls = Calls()

    await calls.arrive(6, apart=1)
    await calls.turns(2 * LONGEST_QUIET)

    first, *others = calls.went
    assert first is not None
    assert None not in others
    assert all(one == other for one, other in pairwise(others))


async def test_a_full_gathering_does_not_wait_for_more() -> None:
    calls = Calls()

    await calls.arrive(LARGEST + 1)
    await calls.turns(4)

    assert None not in calls.went


async def test_a_lone_call_waits_once_after_many_and_then_no_more() -> None:
    calls = Calls()
    await calls.arrive(10)
    await calls.turns(2 * LONGEST_QUIET)
    await calls.answer()

    await calls.arrive()
    await calls.turns(2)
    assert not calls.is_on_its_way(-1)
    await calls.turns(2 * LONGEST_QUIET)
    assert calls.is_on_its_way(-1)
    await calls.answer()

    await calls.arrive()
    await calls.turns(1)
    assert calls.is_on_its_way(-1)
    await calls.answer()


async def test_those_that_wait_can_be_released_at_once() -> None:
    calls = Calls()
    await calls.arrive(3)
    await calls.turns(2)
    assert not calls.is_on_its_way(2)

    calls.gathering.release()
    await calls.turns(1)

    assert None not in calls.went
    await calls.turns(2 * LONGEST_QUIET)
    await calls.answer()


async def test_a_call_that_leaves_does_not_hold_up_the_others() -> None:
    calls = Calls()
    await calls.arrive(3)
    await calls.turns(2)
    calls.tasks[1].cancel()

    await calls.turns(2 * LONGEST_QUIET)

    assert not calls.is_on_its_way(1)
    assert None not in (calls.went[0], calls.went[2])
    await calls.answer()
