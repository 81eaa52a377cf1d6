"""Requests larger than a batch: where they are cut, and how their answer is put together."""

import asyncio
import logging
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.serving.cache_puppet import receipt
from tests.server.serving.puppet import PuppetLane, engine, ids, request, settle

from mercato_plugin import BatchPolicy, ModelSpec, Tensor
from mercato_server.contract.batch import Array
from mercato_server.errors import InvalidRequest, Overloaded, PluginFault
from mercato_server.serving.parts import Parts, cut
from mercato_server.serving.request import Answer, Request

X = Tensor("float64", ("batch", 1))
SPEC = ModelSpec(name="shop.tiny", inputs={"x": X}, outputs={"y": X}, batch=BatchPolicy(max_rows=4))


@given(
    costs=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    max_rows=st.integers(1, 8),
    max_cost=st.none() | st.integers(1, 100),
)
def test_parts_cover_all_rows_in_order_within_the_limits(costs: list[int], max_rows: int, max_cost: int | None) -> None:
    whole = request(0, len(costs), cost=sum(costs), costs=np.array(costs))
    parts = cut(whole, BatchPolicy(max_rows=max_rows, max_cost=max_cost))
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(len(costs)))
    for part in parts:
        taken = whole.take(part)
        assert taken.rows == part.stop - part.start <= max_rows
        assert taken.rows == 1 or max_cost is None or taken.cost <= max_cost


def test_rows_of_equal_cost_are_cut_by_what_each_costs() -> None:
    parts = cut(request(0, 10, cost=100), BatchPolicy(max_rows=64, max_cost=35))
    assert [(part.start, part.stop) for part in parts] == [(0, 3), (3, 6), (6, 9), (9, 10)]


async def test_the_answer_is_put_together_and_its_receipt_tells_of_all_batches() -> None:
    lane = PuppetLane()
    made = engine(SPEC, lane)
    whole = request(7, 10, truncations={"x": 1})
    whole.inputs = {"x": np.arange(10.0).reshape(10, 1)}
    future = made.submit(whole)
    await settle()
    while lane.busy:
        await lane.finish(pre_ns=1, compute_ns=10, post_ns=100, padding=0.5, truncated={"x": frozenset({0})})
    answer = future.result()
    assert ids(answer) == list(range(10))
    receipt = answer.receipt
    assert (receipt.batches, receipt.batch_rows, receipt.padding) == (3, 4, 0.5)
    assert (receipt.pre_ns, receipt.compute_ns, receipt.post_ns) == (3, 30, 300)
    assert dict(receipt.truncations) == {"x": 3}


async def test_parts_share_batches_with_other_requests() -> None:
    lane = PuppetLane()
    made = engine(SPEC, lane)
    whole = made.submit(request(1, 6))
    other = made.submit(request(2, 2))
    await settle()
    while lane.busy:
        await lane.finish()
    assert (ids(whole.result()), ids(other.result())) == ([1] * 6, [2, 2])
    assert [batch.rows for batch in lane.batches] == [4, 4]


async def test_a_refused_row_is_named_by_its_number_in_the_whole_request() -> None:
    lane = PuppetLane()
    future = engine(SPEC, lane).submit(request(1, 10))
    await settle()
    await lane.finish()
    await lane.finish(rejected={1: ("x", "too odd")})
    await settle()
    error = future.exception()
    assert isinstance(error, InvalidRequest)
    assert [violation.field for violation in error.violations] == ["inputs.x[5]"]


async def test_one_part_that_fails_takes_the_others_back() -> None:
    lane = PuppetLane()
    made = engine(SPEC, lane)
    future = made.submit(request(1, 16))
    await settle()
    await lane.fail(PluginFault("boom", model="shop.tiny"))
    await settle()
    assert isinstance(future.exception(), PluginFault)
    while lane.busy:
        await lane.finish()
    assert len(lane.started) <= 2 and made.batcher.queued() == 0


@pytest.mark.parametrize("ran", [0, 1])
async def test_cancelling_takes_all_parts_back(ran: int) -> None:
    lane = PuppetLane()
    made = engine(SPEC, lane)
    future = made.submit(request(1, 16))
    await settle()
    for _ in range(ran):
        await lane.finish()
    future.cancel()
    await settle()
    while lane.busy:
        await lane.finish()
    assert len(lane.started) == ran + 1 and made.batcher.queued() == 0
    await asyncio.wait_for(made.batcher.finished(), 1)


class Scene:
    """A request of as many rows, each a part that ends only when told."""

    def __init__(self, rows: int) -> None:
        self.started: list[Request] = []
        self.ends: list[asyncio.Future[Answer]] = []
        self.refusal: Exception | None = None
        whole = request(0, rows)
        whole.inputs = {"x": np.arange(float(rows))[:, None]}
        self.future = Parts(whole, cut(whole, BatchPolicy(max_rows=1)), self.run, model="shop.tiny").future

    def run(self, request: Request) -> asyncio.Future[Answer]:
        if self.refusal:
            raise self.refusal
        self.started.append(request)
        self.ends.append(asyncio.get_running_loop().create_future())
        return self.ends[-1]

    async def finish(self, place: int, outputs: Mapping[str, Array] | None = None, **facts: int) -> None:
        answer = Answer(outputs or {"y": self.started[place].inputs["x"]}, receipt(**{"started_ns": place, **facts}))
        self.ends[place].set_result(answer)
        await settle()

    @property
    def is_over(self) -> bool:
        """Whether nothing is left under way."""
        return all(end.done() for end in self.ends)


async def test_few_parts_are_under_way_at_a_time_and_their_order_is_kept() -> None:
    s = Scene(20)
    assert len(s.started) == 8
    await s.finish(3)
    await s.finish(0)
    assert len(s.started) == 10

    while not s.future.done():
        await s.finish(max(place for place, end in enumerate(s.ends) if not end.done()))
    assert ids(s.future.result()) == list(range(20)) and len(s.started) == 20


async def test_the_wait_counts_from_the_first_part_to_the_last() -> None:
    s = Scene(10)
    for place in range(10):
        await s.finish(place, started_ns=100 + place * 10, queue_ns=5 if place > 7 else 100 + place * 10 - 70)
    assert s.future.result().receipt.queue_ns == 190 - 70


@pytest.mark.parametrize("way", ["cancelled", "failed", "taken back", "displaced", "refused"])
async def test_whatever_ends_it_takes_back_what_waits_and_submits_no_more(way: str) -> None:
    s = Scene(20)
    await s.finish(0)
    displaced = Overloaded("displaced", model="shop.tiny", retry_after=1.0)
    match way:
        case "cancelled":
            s.future.cancel()
            s.ends[1].set_result(Answer({"y": np.zeros((1, 1))}, receipt()))
        case "failed":
            s.ends[1].set_exception(PluginFault("boom", model="shop.tiny"))
            s.ends[2].set_result(Answer({"y": np.zeros((1, 1))}, receipt()))
        case "taken back":
            s.ends[1].cancel()
        case "displaced":
            s.ends[1].set_exception(displaced)
        case "refused":
            s.refusal = displaced
            await s.finish(1)
    await settle()

    assert s.future.done() and s.is_over and len(s.started) == 9
    assert s.future.cancelled() == (way in ("cancelled", "taken back"))
    assert s.future.cancelled() or (s.future.exception() is displaced) == (way != "failed")


async def test_the_others_are_taken_back_before_it_is_told() -> None:
    s = Scene(20)
    s.ends[0].set_exception(PluginFault("boom", model="shop.tiny"))
    assert not s.future.done()
    await asyncio.sleep(0)

    assert s.future.exception() and s.is_over


async def test_what_cannot_be_submitted_at_first_leaves_nothing_behind() -> None:
    started: list[asyncio.Future[Answer]] = []

    def run(request: Request) -> asyncio.Future[Answer]:
        if len(started) == 3:
            raise ValueError("told to")
        started.append(asyncio.get_running_loop().create_future())
        return started[-1]

    with pytest.raises(ValueError, match="told to"):
        Parts(request(0, 9), cut(request(0, 9), BatchPolicy(max_rows=1)), run)
    assert [part.cancelled() for part in started] == [True] * 3


@pytest.mark.parametrize("way", ["outputs", "submit"])
async def test_whoever_waits_is_told_of_what_nobody_foresaw(way: str, caplog: pytest.LogCaptureFixture) -> None:
    s = Scene(10)
    if way == "submit":
        s.refusal = ValueError("told to")
        await s.finish(0)
    else:
        for place in range(10):
            await s.finish(place, {"y": np.zeros((1,) * (1 + place % 2))})
    error = s.future.exception()

    assert isinstance(error, PluginFault) and s.is_over
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and record.exc_info and record.exc_info[0] is ValueError
    assert (vars(record)["model"], vars(record)["fault"]) == ("shop.tiny", error.id)


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        ([[1, 2]], [[3]], [[1, 2], [3, 0]]),
        ([[[1], [2]]], [[[3, 4]]], [[[1, 0], [2, 0]], [[3, 4], [0, 0]]]),
        ([[[]]], [[[3]]], [[[0]], [[3]]]),
    ],
)
async def test_numbers_of_different_widths_are_widened_with_zeros(first: object, second: object, whole: object) -> None:
    s = Scene(2)
    await s.finish(0, {"y": np.array(first, np.int64)})
    await s.finish(1, {"y": np.array(second, np.int64)})

    assert s.future.result().outputs["y"].tolist() == whole


async def test_texts_of_different_widths_are_widened_with_empty_ones() -> None:
    s = Scene(2)
    await s.finish(0, {"y": np.array([["new", ""]], object)})
    await s.finish(1, {"y": np.array([["sale"]], object)})

    assert s.future.result().outputs["y"].tolist() == [["new", ""], ["sale", ""]]
