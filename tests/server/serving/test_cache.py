"""The cache: which rows are run, which are not, and what the answers are made of."""

import gc
import weakref
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from tests.server.serving.cache_puppet import ROW, Scene, outcome, request, submitted, told
from tests.server.serving.puppet import settle

from mercato_server.contract.receipt import CacheOutcome, Receipt, ReleaseReason
from mercato_server.errors import Overloaded

HIT, MISS, COALESCED, PARTIAL = CacheOutcome.HIT, CacheOutcome.MISS, CacheOutcome.COALESCED, CacheOutcome.PARTIAL


async def test_a_request_of_unknown_rows_is_run_as_it_is() -> None:
    s = Scene()
    asked = request(1, 2)
    future = submitted(s.cache, asked)
    assert s.started[0].request is asked

    ran = await s.finish(queue_ns=9)
    assert told(future) == [10, 20]
    assert future.result().receipt == ran.receipt._replace(cache=MISS)


async def test_known_rows_are_answered_at_once() -> None:
    s = Scene()
    await s.known(1, 2)
    one, both = s.ask(1), s.ask(2, 1)

    assert one.done() and both.done() and not s.started
    assert (told(one), told(both)) == ([10], [20, 10])
    none = MappingProxyType[str, int]({})
    assert both.result().receipt == Receipt(0, 0, 0, 0, 0, 0.0, ReleaseReason.NONE, "cuda", none, 0, 0, HIT, 2)


async def test_known_rows_are_taken_out_and_merged_back() -> None:
    s = Scene()
    await s.known(2, 4)
    future = s.ask(1, 2, 3, 4)
    assert s.ids == [[1, 3]]

    ran = await s.finish()
    assert told(future) == [10, 20, 30, 40]
    assert future.result().receipt == ran.receipt._replace(cache=PARTIAL, cached_rows=2)


async def test_what_belongs_to_a_row_goes_with_it() -> None:
    s = Scene()
    ids = np.array([[7, 0], [8, 9], [7, 7]])
    facts = {"lengths": {"ids": np.array([1, 2, 2])}, "present": {"x": np.array([True, False, True])}}
    for x in ([[1.0], [2.0], [3.0]], [[1.0], [4.0], [5.0]]):
        s.ask(0, 0, 0, inputs={"x": np.array(x), "ids": ids}, costs=np.array([1, 2, 4]), caller="shop", **facts)
    inner = s.started[1].request

    assert (inner.inputs["x"].tolist(), inner.inputs["ids"].tolist()) == ([[4], [5]], [[8, 9], [7, 7]])
    assert (inner.lengths["ids"].tolist(), inner.present["x"].tolist()) == ([2, 2], [False, True])
    assert (inner.rows, inner.cost, inner.caller) == (2, 6, "shop")


async def test_identical_requests_in_flight_share_one_run() -> None:
    s = Scene()
    futures = [s.ask(1, 2) for _ in range(3)]
    assert s.ids == [[1, 2]]

    ran = await s.finish()
    assert [told(future) for future in futures] == [[10, 20]] * 3
    assert [outcome(future) for future in futures] == [(MISS, 0), (COALESCED, 2), (COALESCED, 2)]
    assert futures[1].result().receipt == ran.receipt._replace(cache=COALESCED, cached_rows=2, batches=0)


async def test_rows_in_flight_are_waited_for_from_wherever_they_come() -> None:
    s = Scene()
    await s.known(1)
    first, second = s.ask(2, 3), s.ask(4)
    future = s.ask(5, 4, 3, 2, 1)
    assert s.ids == [[2, 3], [4], [5]]

    for place in (1, 2, 0):
        assert not future.done()
        await s.finish(place)
    assert told(future) == [50, 40, 30, 20, 10]
    assert [outcome(f) for f in (first, second, future)] == [(MISS, 0), (MISS, 0), (PARTIAL, 4)]


async def test_equal_rows_of_one_request_are_run_once() -> None:
    s = Scene()
    future = s.ask(1, 2, 1, 1)
    assert s.ids == [[1, 2]]

    await s.finish()
    assert told(future) == [10, 20, 10, 10]
    assert outcome(future) == (PARTIAL, 2)


@pytest.mark.parametrize(
    "other",
    [
        {"inputs": {"x": np.ones((1, 1), np.float32)}},
        {"inputs": {"x": np.ones((1, 1, 1))}},
        {"parameters": {"k": 1}},
        {"outputs": ("y",)},
        {"present": {"x": np.array([False])}},
    ],
)
async def test_the_same_number_asked_otherwise_neither_hits_nor_waits(other: dict[str, Any]) -> None:
    s = Scene()
    await s.known(1)
    s.ask(1, **other)
    assert len(s.started) == 1
    s.ask(1, parameters={"k": 1.0})
    assert len(s.started) == 2


async def test_a_row_is_not_waited_for_behind_a_less_urgent_request() -> None:
    s = Scene()
    late = s.ask(1, priority=9)
    soon = s.ask(1, priority=5)
    also = s.ask(1, priority=5)
    assert s.ids == [[1], [1]]

    await s.finish()
    assert (late.done(), outcome(soon), outcome(also)) == (False, (MISS, 0), (COALESCED, 1))
    await s.finish(0)
    assert outcome(late) == (MISS, 0)


async def test_the_end_of_a_less_urgent_run_leaves_the_more_urgent_one_to_be_waited_for() -> None:
    s = Scene()
    s.ask(1, priority=9), s.ask(1)
    await s.fail(ValueError("told to"), 0)
    s.ask(1)

    assert s.ids == [[1], [1]]


async def test_nor_behind_one_of_a_later_deadline_unless_it_is_as_good_as_the_same() -> None:
    s = Scene()
    s.ask(1, deadline=30.0)
    for deadline in (29.95, 31.0, 10.0, 9.95):
        s.ask(1, deadline=deadline)
    assert [run.request.deadline for run in s.started] == [30.0, 10.0]

    s.ask(1, deadline=1.0, priority=9)
    assert len(s.started) == 2


async def test_the_oldest_rows_are_forgotten_first() -> None:
    s = Scene(max_bytes=3 * ROW)
    await s.known(1, 2, 3)
    assert s.cache.nbytes == 3 * ROW
    s.ask(1)
    await s.known(4)

    assert (len(s.cache), s.cache.nbytes) == (3, 3 * ROW)
    assert [s.ask(id).done() for id in (1, 3, 4, 2)] == [True, True, True, False]


async def test_a_row_larger_than_the_bound_is_not_kept_and_displaces_nothing() -> None:
    s = Scene(max_bytes=ROW)
    await s.known(1)
    s.ask(2)
    await s.finish(outputs={"y": np.zeros((1, 2))})

    assert [s.ask(id).done() for id in (1, 2)] == [True, False]


async def test_rows_are_counted_by_whether_they_were_run() -> None:
    s = Scene()
    await s.known(1)
    assert (s.cache.hits, s.cache.misses) == (0, 1)
    s.ask(1, 2, 2)
    s.ask(2)
    await s.finish()
    s.ask(1, 2)

    assert (s.cache.hits, s.cache.misses, len(s.cache)) == (5, 2, 2)


async def test_a_refusal_is_in_the_future() -> None:
    s = Scene()
    s.refusal = Overloaded("full", model="shop.tiny", retry_after=1.0)
    future = s.ask(1)
    await settle()

    assert future.exception() is s.refusal
    s.refusal = None
    assert not s.ask(1).done() and s.ids == [[1]]


async def test_nothing_is_held_of_what_is_over() -> None:
    s = Scene(max_bytes=0)
    asked = request(1, 2, 1)
    held = weakref.ref(asked.inputs["x"])
    submitted(s.cache, asked), s.ask(2, 3)
    await s.finish(0), await s.finish(1)
    s.started.clear()
    del asked
    gc.collect()

    assert held() is None and s.cache.nbytes == 0
