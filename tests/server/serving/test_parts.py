"""Requests larger than a batch: where they are cut, and how their answer is put together."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.serving.puppet import PuppetLane, engine, ids, request, settle

from mercato_plugin import BatchPolicy, ModelSpec, Tensor
from mercato_server.errors import InvalidRequest, PluginFault
from mercato_server.serving.parts import cut

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
