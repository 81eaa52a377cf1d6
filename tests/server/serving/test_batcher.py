"""The batcher: when a batch leaves, what it holds, and who gets which answer."""

import asyncio
import gc
import weakref

import numpy as np
import pytest
from tests.server.serving.puppet import ids, request, scene, settle

from mercato_server.contract.receipt import ReleaseReason
from mercato_server.errors import DeadlineExpired, Draining, InvalidRequest, PluginFault


async def test_an_idle_lane_runs_a_request_at_once() -> None:
    s = scene()
    [answer] = await s.submit(request(1))

    assert s.lane.ids == [1]
    s.clock.advance(0.25)
    await s.lane.finish(pre_ns=1, compute_ns=2, post_ns=3, padding=0.5, provider="cuda")

    receipt = answer.result().receipt
    assert ids(answer.result()) == [1]
    assert (receipt.queue_ns, receipt.pre_ns, receipt.compute_ns, receipt.post_ns) == (0, 1, 2, 3)
    assert (receipt.batch_rows, receipt.padding, receipt.provider) == (1, 0.5, "cuda")
    assert receipt.release_reason is ReleaseReason.IDLE


async def test_requests_of_one_turn_leave_together() -> None:
    s = scene()
    await s.submit(request(1), request(2), request(3))

    assert s.lane.ids == [1, 2, 3]


async def test_callers_join_while_the_lane_is_busy() -> None:
    s = scene()
    await s.submit(request(1))
    [second] = await s.submit(request(2))
    s.clock.advance(0.5)
    [third] = await s.submit(request(3, rows=2))
    assert s.batcher.queued() == 2
    s.clock.advance(0.25)
    await s.lane.finish()

    assert s.lane.ids == [2, 3, 3]
    await s.lane.finish()
    assert (ids(second.result()), ids(third.result())) == ([2], [3, 3])
    receipts = [second.result().receipt, third.result().receipt]
    assert [r.release_reason for r in receipts] == [ReleaseReason.JOINED] * 2
    assert [r.batch_rows for r in receipts] == [3, 3]
    assert [r.queue_ns for r in receipts] == [750_000_000, 250_000_000]


@pytest.mark.parametrize("policy", [{"max_rows": 4}, {"max_rows": 100, "max_cost": 40}])
async def test_a_batch_is_full_at_its_limits(policy: dict[str, int]) -> None:
    s = scene(**policy)
    await s.submit(request(0))
    futures = await s.submit(*(request(n, rows=2, cost=20) for n in range(1, 4)))
    await s.lane.finish()

    assert s.lane.ids == [1, 1, 2, 2]
    await s.lane.finish()
    assert futures[0].result().receipt.release_reason is ReleaseReason.FULL
    assert s.lane.ids == [3, 3]
    await s.lane.finish()
    assert futures[2].result().receipt.release_reason is ReleaseReason.JOINED


async def test_a_request_over_the_limits_runs_by_itself() -> None:
    s = scene(max_rows=4, max_cost=10)
    await s.submit(request(1, rows=9, cost=99), request(2))

    assert s.lane.ids == [1] * 9
    await s.lane.finish()
    assert s.lane.ids == [2]


async def test_groups_never_mix_and_the_oldest_goes_first() -> None:
    s = scene()
    await s.submit(request(0))
    for id, group in [(1, "b"), (2, "a"), (3, "b"), (4, "a")]:
        s.clock.advance(0.1)
        await s.submit(request(id, group=(group,)))

    await s.lane.finish()
    assert s.lane.ids == [1, 3]
    await s.lane.finish()
    assert s.lane.ids == [2, 4]


async def test_cancelled_entries_never_run() -> None:
    s = scene()
    await s.submit(request(0))
    futures = await s.submit(request(1), request(2, group=("lonely",)), request(3))
    futures[0].cancel()
    futures[1].cancel()
    await s.lane.finish()

    assert s.lane.ids == [3]
    await s.lane.finish()
    assert not s.lane.busy and s.batcher.queued() == 0


async def test_a_request_cancelled_before_its_turn_of_the_loop_never_runs() -> None:
    s = scene()
    gone = s.batcher.submit(request(1))
    gone.cancel()
    await settle()

    assert s.lane.batches == []


@pytest.mark.parametrize("turns", range(4))
async def test_whenever_it_is_cancelled_a_request_runs_only_if_the_lane_had_it_already(turns: int) -> None:
    s = scene()
    future = s.batcher.submit(request(1))
    for _ in range(turns):
        await asyncio.sleep(0)
    had = len(s.lane.batches)
    future.cancel()
    await settle()

    assert len(s.lane.batches) == had


async def test_expired_entries_are_told_and_never_run() -> None:
    s = scene()
    await s.submit(request(0))
    [late, alive] = await s.submit(request(1, deadline=1.0), request(2, deadline=5.0))
    s.clock.advance(1.0)
    await s.lane.finish()

    assert s.lane.ids == [2]
    with pytest.raises(DeadlineExpired, match="'shop.tiny': the deadline passed in the queue, nothing was run"):
        late.result()
    assert not alive.done()


async def test_a_member_that_goes_away_does_not_harm_the_others() -> None:
    s = scene()
    first, gone, last = await s.submit(request(1, rows=2), request(2, rows=3), request(3))
    gone.cancel()
    await s.lane.finish()

    assert (ids(first.result()), ids(last.result())) == ([1, 1], [3])
    assert gone.cancelled()


async def test_when_a_joined_batch_raises_only_the_guilty_fails() -> None:
    s = scene()
    futures = await s.submit(request(1), request(2), request(3))
    await s.lane.fail(PluginFault("boom", model="shop.tiny"))

    for id in (1, 2, 3):
        assert s.lane.ids == [id]
        await (s.lane.fail(PluginFault("boom", model="shop.tiny")) if id == 2 else s.lane.finish())

    assert (ids(futures[0].result()), ids(futures[2].result())) == ([1], [3])
    assert futures[0].result().receipt.release_reason is ReleaseReason.ALONE
    assert futures[0].result().receipt.batch_rows == 1
    with pytest.raises(PluginFault, match="boom"):
        futures[1].result()
    assert not s.lane.busy


async def test_the_retry_alone_happens_once_and_spares_the_gone_and_the_late() -> None:
    s = scene()
    bad, gone, late = await s.submit(request(1), request(2), request(3, deadline=1.0))
    await s.lane.fail(ValueError("bad"))
    gone.cancel()
    s.clock.advance(2.0)
    await s.lane.fail(ValueError("still bad"))

    assert len(s.lane.batches) == 2 and not s.lane.busy
    with pytest.raises(ValueError, match="still bad"):
        bad.result()
    with pytest.raises(DeadlineExpired):
        late.result()


@pytest.mark.parametrize("rows", [0, 1, 3])
async def test_a_wrong_number_of_answer_rows_is_the_plugins_fault(rows: int) -> None:
    s = scene()
    [future] = await s.submit(request(1, rows=2))
    await s.lane.finish(outputs={"y": np.zeros((rows, 1))})

    with pytest.raises(PluginFault, match=f"output 'y' has {rows} rows, the batch has 2"):
        future.result()
    [good] = await s.submit(request(2))
    await s.lane.finish()
    assert ids(good.result()) == [2]


async def test_wrong_rows_in_a_joined_batch_give_nobody_anothers_answer() -> None:
    s = scene()
    guilty, innocent = await s.submit(request(1), request(2))
    await s.lane.finish(outputs={"y": np.zeros((1, 1))})
    await s.lane.finish(outputs={"y": np.zeros((0, 1))})
    await s.lane.finish()

    assert isinstance(guilty.exception(), PluginFault)
    assert ids(innocent.result()) == [2]


async def test_rejected_rows_fail_only_their_request_by_its_own_row_number() -> None:
    s = scene()
    first, second, third = await s.submit(request(1, rows=2), request(2, rows=3), request(3))
    await s.lane.finish(rejected={2: ("x", "too odd"), 4: ("x", "too even"), 99: ("x", "of nobody")})

    assert (ids(first.result()), ids(third.result())) == ([1, 1], [3])
    error = second.exception()
    assert isinstance(error, InvalidRequest)
    found = [(violation.field, violation.description) for violation in error.violations]
    assert found == [("inputs.x[0]", "too odd"), ("inputs.x[2]", "too even")]
    assert error.model == "shop.tiny"


async def test_all_rows_rejected_need_no_outputs() -> None:
    s = scene()
    [future] = await s.submit(request(1, rows=2))
    await s.lane.finish(outputs={}, rejected={0: ("x", "no"), 1: ("x", "no")})

    assert isinstance(future.exception(), InvalidRequest)


async def test_truncations_are_counted_per_request() -> None:
    s = scene()
    first, second, third = await s.submit(
        request(1, rows=2, truncations={"title": 2}), request(2, rows=2), request(3, truncations={"title": 1})
    )
    await s.lane.finish(truncated={"x": frozenset({1, 2, 3}), "title": frozenset({0})})

    found = [dict(future.result().receipt.truncations) for future in (first, second, third)]
    assert found == [{"title": 2, "x": 1}, {"x": 2}, {"title": 1}]


async def test_an_unexpected_exception_leaves_the_queue_alive() -> None:
    s = scene()
    [broken] = await s.submit(request(1))
    [waiting] = await s.submit(request(2))
    await s.lane.fail(RuntimeError("out of luck"))
    await s.lane.finish()

    assert isinstance(broken.exception(), RuntimeError)
    assert ids(waiting.result()) == [2]


async def test_requests_that_cannot_be_joined_are_run_alone() -> None:
    s = scene()
    wide = request(2)
    wide.inputs = {"x": np.full((1, 1, 3), 2.0)}
    futures = await s.submit(request(1), wide)

    assert s.lane.ids == [1]
    await s.lane.finish()
    await s.lane.finish()
    assert [future.done() and future.exception() for future in futures] == [None, None]


async def test_finished_waits_for_what_is_queued_and_running() -> None:
    s = scene(max_rows=1)
    future, other = s.batcher.submit(request(1)), s.batcher.submit(request(2))
    finished = asyncio.ensure_future(s.batcher.finished())
    await settle()
    await s.lane.finish()
    assert future.done() and not other.done() and not finished.done()
    await s.lane.finish()

    assert other.done() and finished.done()
    await asyncio.wait_for(s.batcher.finished(), 1)


async def test_what_is_given_up_is_told_so_and_never_run() -> None:
    s = scene()
    [running] = await s.submit(request(1))
    waiting, gone = await s.submit(request(2), request(3, group=("other",)))
    gone.cancel()
    s.batcher.abandon()
    await settle()

    for future in (running, waiting):
        with pytest.raises(Draining, match="did not wait for this request any longer"):
            future.result()
    assert len(s.lane.batches) == 1 and s.batcher.queued() == 0
    await asyncio.wait_for(s.batcher.finished(), 1)


async def test_what_is_given_up_before_it_started_is_told_so_too() -> None:
    s = scene()
    future = s.batcher.submit(request(1))
    s.batcher.abandon()
    await settle()

    assert isinstance(future.exception(), Draining) and s.lane.batches == []
    finished = asyncio.ensure_future(s.batcher.finished())
    await settle()
    finished.cancel()
    assert finished.done() and not finished.cancelled()


async def test_what_ends_with_its_loop_leaves_no_error_that_nobody_asks_for(caplog: pytest.LogCaptureFixture) -> None:
    s = scene()
    await s.submit(request(1))
    assert s.batcher._running is not None
    s.batcher._running.cancel()
    await settle()
    del s
    gc.collect()
    assert caplog.messages == []


async def test_members_to_be_run_alone_are_given_up_too() -> None:
    s = scene()
    futures = await s.submit(request(1), request(2), request(3))
    await s.lane.fail(ValueError("bad"))
    s.batcher.abandon()
    await settle()

    assert all(isinstance(future.exception(), Draining) for future in futures)
    assert s.batcher.queued() == 0


async def test_the_drain_time_grows_with_the_queue() -> None:
    s = scene(max_rows=2)
    assert s.batcher.drain_seconds() == 0.01
    await s.submit(request(1))
    s.clock.advance(1.0)
    await s.lane.finish()
    one = s.batcher.drain_seconds()
    await s.submit(request(1), *(request(n) for n in range(4)))

    assert 0 < one < s.batcher.drain_seconds()


async def test_a_flood_of_cancelled_requests_does_not_pile_up_behind_a_busy_lane() -> None:
    s = scene()
    await s.submit(request(0))
    payloads = []
    for id in range(500):
        cancelled = request(id)
        payloads.append(weakref.ref(cancelled.inputs["x"]))
        (await s.submit(cancelled))[0].cancel()
        del cancelled

    assert s.batcher.queued() <= 20
    assert sum(payload() is not None for payload in payloads) <= 20


async def test_the_first_run_is_the_first_estimate() -> None:
    s = scene()
    await s.submit(request(1))
    s.clock.advance(1.0)
    await s.lane.finish()
    assert s.batcher.drain_seconds() == 1.0
    await s.submit(request(1))
    s.clock.advance(2.0)
    await s.lane.finish()
    assert s.batcher.drain_seconds() == pytest.approx(1.2)


async def test_retries_count_as_one_run_each() -> None:
    s = scene()
    await s.submit(request(1), request(2), request(3))
    s.clock.advance(1.0)
    await s.lane.fail(ValueError("bad"))
    assert s.batcher.queued() == 2
    assert s.batcher.drain_seconds() == 3.0
