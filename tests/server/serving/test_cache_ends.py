"""The cache when runs fail and callers go: who is told what, and which rows are run again."""

import asyncio
import gc
from collections.abc import Callable

import pytest
from tests.server.serving import puppet as batching
from tests.server.serving.cache_puppet import Scene, request, submitted, told
from tests.server.serving.puppet import settle

from mercato_server.contract.receipt import CacheOutcome
from mercato_server.errors import (
    DeadlineExpired,
    Draining,
    InvalidRequest,
    Overloaded,
    PluginFault,
    RequestError,
    WorkerCrashed,
)
from mercato_server.serving.cache import RowCache

COALESCED, MISS = CacheOutcome.COALESCED, CacheOutcome.MISS

# What says nothing about a run of the same rows for another caller.
PERSONAL: list[Callable[[], BaseException]] = [
    lambda: InvalidRequest.of("inputs.x[0]", "too large", model="shop.tiny"),
    lambda: Overloaded("full", model="shop.tiny", retry_after=1.0),
    lambda: DeadlineExpired("late", model="shop.tiny"),
    lambda: WorkerCrashed("not its turn", model="shop.tiny", may_have_run=False),
    lambda: ValueError("raised by the batcher"),
]

FINAL: list[Callable[[], RequestError]] = [
    lambda: PluginFault("broken", model="shop.tiny"),
    lambda: WorkerCrashed("killed", model="shop.tiny", may_have_run=True),
    lambda: Draining("stopping", model="shop.tiny"),
]


@pytest.mark.parametrize("made", [*PERSONAL, *FINAL])
async def test_a_request_has_the_error_of_its_own_run(made: Callable[[], BaseException]) -> None:
    s, error = Scene(), made()
    await s.known(1)
    future = s.ask(1, 2)
    await s.fail(error)

    assert future.exception() is error
    s.ask(2)
    assert s.ids == [[2], [2]]


@pytest.mark.parametrize("made", PERSONAL)
async def test_who_waited_for_a_run_that_failed_runs_the_rows_itself(made: Callable[[], BaseException]) -> None:
    s = Scene()
    s.ask(1, 2)
    both, one = s.ask(2, 3), s.ask(1)
    await s.fail(made(), 0)
    assert s.ids == [[1, 2], [3], [2], [1]]

    for place in (1, 2, 3):
        await s.finish(place, started_ns=place)
    assert (told(both), told(one)) == ([20, 30], [10])
    receipt = both.result().receipt
    assert (receipt.cache, receipt.cached_rows, receipt.batches) == (MISS, 0, 2)


async def test_the_rest_waits_for_the_first_that_runs_the_row_again() -> None:
    s = Scene()
    futures = [s.ask(1) for _ in range(4)]
    await s.fail(DeadlineExpired("late", model="shop.tiny"))
    assert s.ids == [[1], [1]]

    await s.finish()
    assert [future.result().receipt.cache for future in futures[1:]] == [MISS, COALESCED, COALESCED]


async def test_whoever_has_lost_twice_waits_for_nobody() -> None:
    s = Scene()
    futures = [s.ask(1) for _ in range(5)]
    error = InvalidRequest.of("inputs.x[0]", "too large", model="shop.tiny")
    await s.fail(error)
    await s.fail(error)
    assert s.ids == [[1]] * 5

    for place in (2, 3, 4):
        await s.fail(error, place)
    assert all(future.exception() is error for future in futures)


async def test_the_most_urgent_of_those_is_whom_others_wait_for() -> None:
    s = Scene()
    for priority in (5, 5, 5, 9):
        s.ask(1, priority=priority)
    await s.fail(ValueError("told to"))
    await s.fail(ValueError("told to"))
    assert [run.request.priority for run in s.started] == [5, 5, 5, 9]

    s.ask(1, priority=5)
    assert len(s.started) == 4


@pytest.mark.parametrize("made", FINAL)
async def test_what_a_run_of_its_own_would_meet_too_is_told_in_an_error_of_its_own(
    made: Callable[[], RequestError],
) -> None:
    s, error = Scene(), made()
    s.ask(1, 2)
    others = [s.ask(2, 1), s.ask(2, 1, 1)]
    await s.fail(error)

    assert s.ids == [[1, 2]]
    for future in others:
        own = future.exception()
        assert own is not error and type(own) is type(error) and isinstance(own, RequestError)
        assert vars(own) == vars(error) and str(own) == str(error)


async def test_a_fault_may_be_that_of_a_row_beside_the_shared_one() -> None:
    s = Scene()
    s.ask(1, 2)
    future = s.ask(1)
    await s.fail(PluginFault("broken", model="shop.tiny"))
    assert s.ids == [[1, 2], [1]]

    own = PluginFault("broken", model="shop.tiny")
    await s.fail(own)
    assert future.exception() is own


async def test_what_may_have_ended_a_worker_is_not_run_again_beside_other_rows_either() -> None:
    s = Scene()
    s.ask(1, 2)
    future = s.ask(1, 3)
    await s.fail(WorkerCrashed("killed", model="shop.tiny", may_have_run=True), 0)

    assert isinstance(future.exception(), WorkerCrashed)
    assert s.ids == [[1, 2], [3]] and s.started[1].end.cancelled()


async def test_a_request_that_is_cancelled_is_taken_back() -> None:
    s = Scene()
    future = s.ask(1)
    future.cancel()
    await settle()
    assert s.started[0].end.cancelled()

    again = s.ask(1)
    await s.finish()
    assert told(again) == [10]


async def test_nobody_waits_for_a_run_that_is_taken_back() -> None:
    s = Scene()
    s.ask(1).cancel()
    await asyncio.sleep(0)
    s.ask(1)

    assert s.ids == [[1], [1]]


@pytest.mark.parametrize("leader", [0, 1])
async def test_a_run_goes_on_while_anybody_waits_for_it(leader: int) -> None:
    s = Scene()
    futures = [s.ask(1), s.ask(1)]
    futures[leader].cancel()
    await settle()
    assert not s.started[0].end.cancelled()

    await s.finish()
    assert told(futures[1 - leader]) == [10]
    assert told(s.ask(1)) == [10]


async def test_a_run_ends_when_the_last_one_has_gone() -> None:
    s = Scene()
    futures = [s.ask(1), s.ask(1), s.ask(1, 2)]
    for future in futures[:2]:
        future.cancel()
    await settle()
    assert [run.end.cancelled() for run in s.started] == [False, False]

    futures[2].cancel()
    await settle()
    assert [run.end.cancelled() for run in s.started] == [True, True]


async def test_a_request_whose_time_is_over_is_taken_back_too() -> None:
    s = Scene()
    late, other = s.ask(1), s.ask(1)
    late.set_exception(DeadlineExpired("not ready in time", model="shop.tiny"))
    late.exception()
    await s.finish()

    assert told(other) == [10]


async def test_a_caller_that_goes_while_its_answer_comes_changes_nothing() -> None:
    s = Scene()
    gone, other = s.ask(1), s.ask(1, 2)
    s.started[0].end.set_exception(ValueError("told to"))
    gone.cancel()
    await settle()

    assert s.ids == [[1], [2], [1]]
    await s.finish(1)
    await s.finish(2)
    assert told(other) == [10, 20]


async def test_a_run_that_is_cancelled_from_within_ends_its_own_request_alone() -> None:
    s = Scene()
    own, other = s.ask(1), s.ask(1)
    s.started[0].end.cancel()
    await settle()

    assert own.cancelled() and s.ids == [[1], [1]]
    await s.finish()
    assert told(other) == [10]


async def test_a_refused_row_is_named_by_its_number_in_the_callers_request() -> None:
    s = batching.scene()
    cache = RowCache("shop.tiny", "digest", 1 << 20, s.batcher.submit, lambda: True)
    known = submitted(cache, request(1, 1))
    await settle()
    await s.lane.finish()
    assert batching.ids(known.result()) == [1, 1]

    future = submitted(cache, request(1, 2, 3))
    await settle()
    assert s.lane.ids == [2, 3]
    await s.lane.finish(rejected={1: ("x", "too large")})
    with pytest.raises(InvalidRequest, match=r"inputs\.x\[2\]: too large"):
        future.result()


async def test_no_error_is_reported_as_never_asked_for() -> None:
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    s = Scene()
    for made in [*PERSONAL, *FINAL]:
        s.ask(1, 2), s.ask(1), s.ask(2, 1), s.ask(1, 2).cancel()
        while not s.started[-1].end.done():
            await s.fail(made())
    s.ask(3).cancel()
    s.started[-1].end.set_exception(ValueError("told to"))
    await settle()
    s.started.clear()
    gc.collect()

    assert not reports
