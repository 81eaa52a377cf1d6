"""Calls that arrive close together go on in one turn; a lone call waits for no timer."""

import asyncio

from mercato_server.rpc.gathering import LARGEST, LONGEST_QUIET, Gathering


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def arrivals(gathering: Gathering, count: int) -> list[asyncio.Future[None]]:
    """One call per turn of the loop, as gRPC hands them over."""
    futures = []
    for _ in range(count):
        futures.append(gathering.turn())
        await asyncio.sleep(0)
    return futures


async def test_a_lone_call_goes_on_after_a_few_turns() -> None:
    future = Gathering().turn()

    await turns(8)

    assert future.done()


async def test_calls_of_neighbouring_turns_go_on_in_the_same_turn() -> None:
    first, *others = await arrivals(Gathering(), 5)

    while not first.done():
        assert not any(future.done() for future in others)
        await asyncio.sleep(0)

    assert all(future.done() for future in others)


async def test_a_full_gathering_does_not_wait_for_more() -> None:
    gathering = Gathering()
    futures = [gathering.turn() for _ in range(LARGEST)]

    await turns(2)

    assert all(future.done() for future in futures)


async def test_the_wait_grows_with_the_last_gathering_and_shrinks_again() -> None:
    gathering = Gathering()
    many = [gathering.turn() for _ in range(10)]
    await turns(8)
    assert all(future.done() for future in many)

    after_many = gathering.turn()
    await turns(8)
    assert not after_many.done()
    await turns(LONGEST_QUIET)
    assert after_many.done()

    after_one = gathering.turn()
    await turns(8)
    assert after_one.done()


async def test_a_call_that_left_does_not_hold_up_the_others() -> None:
    gathering = Gathering()
    gone, stays = gathering.turn(), gathering.turn()
    gone.cancel()

    await turns(8)

    assert gone.cancelled()
    assert stays.done()
