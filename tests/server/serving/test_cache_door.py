"""The cache's two steps, which a permit is taken between, and whose runs a call waits for."""

import numpy as np
from tests.server.serving.cache_puppet import Scene, numbers, outcome, request, told

from mercato_server.contract.receipt import CacheOutcome
from mercato_server.errors import DeadlineExpired
from mercato_server.serving.admission import Callers, Permit, Pool

HIT, MISS, COALESCED, PARTIAL = CacheOutcome.HIT, CacheOutcome.MISS, CacheOutcome.COALESCED, CacheOutcome.PARTIAL


def permit() -> Permit:
    return Permit((Pool(max_requests=9, max_bytes=9),), Callers(), "", 1)


async def test_a_call_whose_rows_are_all_known_is_over_when_it_has_begun() -> None:
    s = Scene()
    await s.known(1, 2)
    call = s.cache.begin(request(2, 1))

    assert (told(call.future), outcome(call.future)) == ([20, 10], (HIT, 2))
    assert (s.cache.hits, s.started) == (2, [])


async def test_nothing_is_run_counted_or_waited_for_before_a_call_is_run() -> None:
    s = Scene()
    await s.known(1)
    calls = [s.cache.begin(request(1, 2)) for _ in range(2)]
    assert not any(call.future.done() for call in calls) and not s.started
    assert (s.cache.hits, s.cache.misses) == (0, 1)

    futures = [s.cache.run(call) for call in calls]
    assert s.ids == [[2]]
    await s.finish()
    assert [outcome(future) for future in futures] == [(PARTIAL, 1), (COALESCED, 2)]


async def test_what_becomes_known_between_the_steps_is_not_run() -> None:
    s = Scene()
    s.ask(1)
    call = s.cache.begin(request(1))
    await s.finish()

    assert outcome(s.cache.run(call)) == (HIT, 1)
    assert s.ids == [[1]]


async def test_known_rows_that_make_no_answer_are_run_in_the_second_step() -> None:
    s = Scene()
    await s.known(1)
    s.ask(2)
    await s.finish(outputs={"y": np.array([[20.0, 0.0]])})
    s.started.clear()
    call = s.cache.begin(request(1, 2))
    assert not call.future.done() and not s.started

    future = s.cache.run(call)
    assert s.ids == [[1, 2]]
    await s.finish()
    assert (told(future), outcome(future)) == ([10, 20], (MISS, 0))


async def test_whatever_is_run_has_the_permit_that_was_taken_between_the_steps() -> None:
    s = Scene()
    await s.known(1)
    s.ask(3)
    call = s.cache.begin(request(1, 2, 3))
    call.request.permit = taken = permit()
    s.cache.run(call)
    await s.fail(DeadlineExpired("late", model="shop.tiny"), 0)

    assert s.ids == [[3], [2], [3]]
    assert [run.request.permit for run in s.started] == [None, taken, taken]


async def test_a_call_waits_for_the_run_of_another_caller_only_while_little_waits() -> None:
    s = Scene()
    s.ask(1, caller="flood"), s.ask(1, caller="polite")
    assert s.ids == [[1]]

    s.is_short = False
    polite = [s.ask(1, caller="polite") for _ in range(3)]
    flood = s.ask(1, caller="flood")
    assert s.ids == [[1], [1]]
    await s.finish()
    assert [outcome(future)[0] for future in polite] == [MISS, COALESCED, COALESCED]
    assert numbers(s.ask(1, caller="other").result().outputs["y"]) == [10] and not flood.done()


async def test_a_caller_finds_its_own_run_whichever_is_the_more_urgent() -> None:
    s = Scene()
    s.is_short = False
    s.ask(1, caller="a", priority=7), s.ask(1, caller="b", priority=3)
    for caller in "ab":
        s.ask(1, caller=caller, priority=8)
    assert s.ids == [[1], [1]]

    s.ask(1, caller="a", priority=3), s.ask(1, caller="a", priority=3)
    assert [run.request.priority for run in s.started] == [7, 3, 3]


async def test_the_end_of_a_run_leaves_those_of_other_callers_to_be_found() -> None:
    s = Scene(max_bytes=0)
    s.is_short = False
    for caller in "aab":
        s.ask(1, caller=caller)
    await s.finish(0)
    s.ask(1, caller="b")
    assert len(s.started) == 2
    await s.finish(1)
    s.ask(1, caller="b"), s.ask(1, caller="a")
    assert len(s.started) == 4


async def test_who_waits_already_goes_on_waiting_however_much_comes() -> None:
    s = Scene()
    first, second = s.ask(1, caller="a"), s.ask(1, caller="b")
    s.is_short = False
    await s.finish()

    assert (outcome(first), outcome(second)) == ((MISS, 0), (COALESCED, 1))
