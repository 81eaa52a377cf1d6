"""The batcher: when a batch leaves, what it holds, and who gets which answer."""

import asyncio
import gc
import weakref
from collections.abc import Sequence

import numpy as np
import pytest
from tests.server.serving.puppet import Clock, PuppetLane, Scene, ids, request, rows_of, scene, settle

from mercato_plugin import BatchPolicy
from mercato_server.contract.batch import BatchResult, JoinedBatch
from mercato_server.contract.lane import NotRun
from mercato_server.contract.receipt import ReleaseReason
from mercato_server.errors import (
    DeadlineExpired,
    DeadlineUnreachable,
    Draining,
    InvalidRequest,
    PluginFault,
    WorkerCrashed,
)


class Stubborn(PuppetLane):
    """Runs what it has to the end, cancelled or not."""

    def recall(self, batch: JoinedBatch) -> None:
        """Too late: it has begun."""

    async def run(self, batch: JoinedBatch) -> BatchResult:
        run = asyncio.ensure_future(super().run(batch))
        try:
            return await asyncio.shield(run)
        except asyncio.CancelledError:
            return await run


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
    while s.lane.busy:
        await (s.lane.fail(PluginFault("boom", model="shop.tiny")) if 2 in s.lane.ids else s.lane.finish())

    assert [rows_of(batch) for batch in s.lane.batches] == [[1, 2, 3], [1], [2, 3], [2], [3]]
    assert (ids(futures[0].result()), ids(futures[2].result())) == ([1], [3])
    assert futures[0].result().receipt.release_reason is ReleaseReason.BISECTED
    assert futures[0].result().receipt.batch_rows == 1
    with pytest.raises(PluginFault, match="boom"):
        futures[1].result()
    assert not s.lane.busy


async def test_one_guilty_of_many_costs_two_runs_per_halving() -> None:
    s = scene()
    futures = await s.submit(*(request(id) for id in range(64)))
    while s.lane.busy:
        await (s.lane.fail(ValueError("bad")) if 42 in s.lane.ids else s.lane.finish())

    assert len(s.lane.batches) == 1 + 2 * 6
    failed = [id for id, future in enumerate(futures) if future.exception()]
    assert failed == [42]


async def test_all_of_them_guilty_fail_each_by_itself() -> None:
    s = scene()
    futures = await s.submit(*(request(id) for id in range(8)))
    while s.lane.busy:
        await s.lane.fail(ValueError(f"bad {s.lane.ids}"))

    assert [str(future.exception()) for future in futures] == [f"bad [{id}]" for id in range(8)]


async def test_more_urgent_requests_overtake_what_is_bisected() -> None:
    s = scene()
    await s.submit(request(1), request(2))
    await s.submit(request(3), request(4, priority=1))
    await s.lane.fail(ValueError("bad"))
    started = [s.lane.ids]
    while s.lane.busy:
        await s.lane.finish()
        started.append(s.lane.ids)

    assert started[:4] == [[4, 3], [1], [2], [2]]


async def test_what_is_bisected_is_not_forgotten_when_what_was_more_urgent_has_expired() -> None:
    s = scene()
    first, second = await s.submit(request(1), request(2))
    await s.lane.fail(ValueError("bad"))
    [late] = await s.submit(request(3, priority=1, deadline=1.0))
    s.clock.advance(1.0)
    await s.lane.finish()
    assert s.lane.ids == [2] and isinstance(late.exception(), DeadlineExpired)
    await s.lane.finish()
    assert (ids(first.result()), ids(second.result())) == ([1], [2])


async def test_what_cannot_be_run_in_time_is_not_run_in_vain() -> None:
    s = scene(max_rows=1)
    await s.submit(request(0))
    s.clock.advance(1.0)
    await s.lane.finish()
    await s.submit(request(1), request(4))
    hopeless, good = await s.submit(request(2, deadline=3.5), request(3, deadline=9.0))
    s.clock.advance(1.0)
    await s.lane.finish()
    s.clock.advance(1.0)
    await s.lane.finish()
    text = "the deadline is nearer than a run takes, nothing was run"
    with pytest.raises(DeadlineUnreachable, match=text):
        hopeless.result()
    s.clock.advance(1.0)
    await s.lane.finish()
    assert ids(good.result()) == [3]


async def taught(s: Scene, batches: Sequence[int], *, base: float, slope: float) -> float:
    """Have batches of these rows take `base + slope * rows` seconds each; the time after the last, in seconds."""
    for rows in batches:
        await s.submit(request(0, rows))
        s.clock.advance(base + slope * rows)
        await s.lane.finish()
    return s.clock.now / 1e9


async def test_one_in_a_hurry_before_a_full_batch_of_others_holds_up_nobody() -> None:
    s = scene(max_rows=16)
    now = await taught(s, (1, 16, 8, 16, 1), base=0.05, slope=0.01)
    await s.submit(request(1))
    [hurried] = await s.submit(request(2, deadline=now + 0.17))
    await s.submit(*(request(3, deadline=now + 30) for _ in range(16)))
    assert 2 not in s.lane.prepared
    s.clock.advance(0.06)
    await s.lane.finish()
    await s.lane.finish()
    assert hurried.done()
    while s.lane.busy:
        await s.lane.finish()
    assert s.batcher.queued() == 0


async def test_where_a_small_batch_is_not_worth_its_run_those_in_a_hurry_do_not_make_them_all_small() -> None:
    s = scene(max_rows=16)
    now = await taught(s, (1, 16, 8, 16, 1), base=1.0, slope=0.01)
    await s.submit(request(0))
    hurried = await s.submit(*(request(1, deadline=now + 1.02 + 1.02) for _ in range(4)))
    await s.submit(*(request(2, deadline=now + 30) for _ in range(12)))
    s.clock.advance(1.01)
    await s.lane.finish()
    assert s.lane.ids == [2] * 12
    assert all(isinstance(future.exception(), DeadlineUnreachable) for future in hurried)


async def test_a_part_of_a_batch_that_raised_rises_too() -> None:
    s = scene(max_rows=4)
    halves = await s.submit(*(request(id, priority=5, deadline=10.0) for id in range(2)))
    await s.lane.fail(ValueError("bad"))
    await s.submit(*(request(9, priority=1, deadline=100.0) for _ in range(40)))
    s.clock.advance(8.5)
    await s.lane.finish()
    assert s.lane.ids == [1]
    await s.lane.finish()
    assert [ids(future.result()) for future in halves] == [[0], [1]]


async def test_a_batch_grows_no_larger_than_its_earliest_deadline_allows() -> None:
    s = scene()
    now = await taught(s, (1, 2, 4, 1, 2, 4), base=0.0, slope=0.1)
    await s.submit(request(0))
    await s.submit(request(1, deadline=now + 0.75), *(request(2, deadline=now + 9) for _ in range(20)))
    s.clock.advance(0.1)
    await s.lane.finish()
    assert s.lane.ids[0] == 1 and len(s.lane.ids) == 6


async def test_what_is_run_again_spares_the_gone_and_the_late() -> None:
    s = scene()
    bad, gone, late = await s.submit(*(request(id, deadline=id) for id in (1, 2, 3)))
    await s.lane.fail(ValueError("bad"))
    gone.cancel()
    s.clock.advance(3.0)
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
    s.batcher.abandon("it was unloaded")
    await settle()

    for future in (running, waiting):
        with pytest.raises(Draining, match="'shop.tiny': it was unloaded; the server did not wait for this request"):
            future.result()
    assert len(s.lane.batches) == 1 and s.batcher.queued() == 0
    await asyncio.wait_for(s.batcher.finished(), 1)


async def test_what_is_given_up_before_it_started_is_told_so_too() -> None:
    s = scene()
    future = s.batcher.submit(request(1))
    s.batcher.abandon("it was unloaded")
    await settle()

    assert isinstance(future.exception(), Draining) and s.lane.batches == []
    finished = asyncio.ensure_future(s.batcher.finished())
    await settle()
    finished.cancel()
    assert finished.done() and not finished.cancelled()


async def test_what_ends_with_its_loop_leaves_no_error_that_nobody_asks_for(caplog: pytest.LogCaptureFixture) -> None:
    s = scene()
    await s.submit(request(1))
    [task] = s.batcher._tasks.values()
    task.cancel()
    del task
    await settle()
    del s
    gc.collect()
    assert caplog.messages == []


async def test_members_to_be_run_alone_are_given_up_too() -> None:
    s = scene()
    futures = await s.submit(request(1), request(2), request(3))
    await s.lane.fail(ValueError("bad"))
    s.batcher.abandon("it was unloaded")
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
    assert 1.0 < s.batcher.drain_seconds() < 2.0


async def test_what_is_bisected_counts_as_waiting() -> None:
    s = scene()
    await s.submit(request(0))
    s.clock.advance(1.0)
    await s.lane.finish()
    await s.submit(request(1), request(2), request(3))
    s.clock.advance(9.0)
    await s.lane.fail(ValueError("bad"))
    assert s.batcher.queued() == 2
    assert s.batcher.drain_seconds() == 2.0


@pytest.mark.parametrize(
    ("policy", "fills"),
    [({"max_rows": 2}, "exactly"), ({"max_rows": 3}, "with more waiting"), ({"max_rows": 99, "max_cost": 20}, "cost")],
)
async def test_a_full_batch_is_prepared_while_another_runs(policy: dict[str, int], fills: str) -> None:
    s = scene(**policy)
    await s.submit(request(0))
    s.clock.advance(1.0)
    second = await s.submit(request(1, rows=2, cost=20), *([request(2, rows=2)] if "more" in fills else []))

    assert (s.lane.ids, s.lane.prepared) == ([0], [1, 1])
    s.clock.advance(0.5)
    await s.lane.finish()
    s.clock.advance(0.25)
    await s.lane.finish()
    receipt = second[0].result().receipt
    assert receipt.release_reason is ReleaseReason.FULL
    assert (receipt.queue_ns, receipt.started_ns) == (500_000_000, 1_500_000_000)


async def test_a_part_full_batch_waits_for_the_lane_and_callers_keep_joining() -> None:
    s = scene(max_rows=4)
    await s.submit(request(0))
    await s.submit(request(1), request(2))
    assert len(s.lane.batches) == 1
    await s.submit(request(3))
    assert s.batcher.queued() == 3 and s.lane.prepared == []
    await s.lane.finish()

    assert s.lane.ids == [1, 2, 3]


async def test_the_lane_has_two_batches_at_most() -> None:
    s = scene(max_rows=2)
    await s.submit(*(request(id) for id in range(9)))

    assert [rows_of(batch) for batch in s.lane.batches] == [[0, 1], [2, 3]]
    await s.lane.finish()
    assert (s.lane.ids, s.lane.prepared) == ([2, 3], [4, 5])
    for _ in range(4):
        await s.lane.finish()
    assert [rows_of(batch) for batch in s.lane.batches] == [[0, 1], [2, 3], [4, 5], [6, 7], [8]]
    assert not s.lane.busy and s.batcher.queued() == 0


async def test_the_gone_do_not_fill_a_batch() -> None:
    s = scene(max_rows=2)
    await s.submit(request(0))
    [gone] = await s.submit(request(1))
    gone.cancel()
    await s.submit(request(2))
    assert s.lane.prepared == []
    await s.submit(request(3))

    assert s.lane.prepared == [2, 3]


async def test_a_group_that_fills_does_not_overtake_one_that_waits_longer() -> None:
    s = scene(max_rows=2)
    await s.submit(request(0))
    await s.submit(request(1, group=("rare",)))
    await s.submit(request(2), request(3), request(4), request(5))
    assert s.lane.prepared == []
    await s.lane.finish()

    assert (s.lane.ids, s.lane.prepared) == ([1], [2, 3])


async def test_what_is_bisected_is_never_prepared_and_its_equals_do_not_overtake_it() -> None:
    s = scene(max_rows=2)
    futures = await s.submit(*(request(id) for id in range(6)))
    await s.lane.fail(ValueError("bad"))
    assert (s.lane.ids, s.lane.prepared) == ([2, 3], [])
    for expected in ([0], [1]):
        await s.lane.finish()
        assert s.lane.ids == expected
    assert s.lane.prepared == [4, 5]
    await s.lane.finish()
    await s.lane.finish()

    assert [ids(future.result()) for future in futures] == [[0], [1], [2], [3], [4], [5]]


async def test_the_time_of_a_batch_counts_from_when_it_is_the_first_in_the_lane() -> None:
    s = scene(max_rows=1)
    await s.submit(request(0), request(1), request(2))
    s.clock.advance(1.0)
    await s.lane.finish()
    s.clock.advance(1.0)
    await s.lane.finish()

    assert s.batcher.drain_seconds() == 1.0


async def test_the_drain_time_counts_what_is_prepared() -> None:
    s = scene(max_rows=2)
    await s.submit(request(0))
    s.clock.advance(1.0)
    await s.lane.finish()
    await s.submit(*(request(id) for id in range(5)))

    assert (s.batcher.queued(), s.batcher.drain_seconds()) == (1, 3.0)


async def test_of_a_batch_that_was_not_run_the_living_leave_again_first() -> None:
    s = scene(max_rows=4)
    late, gone, alive, last = await s.submit(
        request(1, deadline=1.0), request(2), request(3, deadline=9.0), request(4, deadline=9.0)
    )
    await s.submit(request(5))
    gone.cancel()
    s.clock.advance(1.0)
    await s.lane.fail(NotRun())

    with pytest.raises(DeadlineExpired, match="the deadline passed in the queue, nothing was run"):
        late.result()
    assert s.lane.ids == [3, 4, 5]
    await s.lane.finish()
    assert (ids(alive.result()), ids(last.result())) == ([3], [4])
    assert alive.result().receipt.queue_ns == 1_000_000_000
    assert (s.batcher.tally.failed, s.batcher.drain_seconds()) == (0, 0.01)


@pytest.mark.parametrize("places", [(0, 0), (1, 0)])
async def test_two_batches_that_were_not_run_come_back_in_their_order(places: tuple[int, int]) -> None:
    s = scene(max_rows=2)
    await s.submit(*(request(id, deadline=9.0 if id % 2 else 1.0) for id in range(4)))
    s.clock.advance(1.0)
    for place in places:
        await s.lane.fail(NotRun(), place)

    assert (s.lane.ids, s.lane.prepared, s.batcher.queued()) == ([1, 3], [], 0)


async def test_a_lane_whose_clock_is_ahead_is_believed() -> None:
    s = scene()
    early, late = await s.submit(request(1, deadline=1.0), request(2, deadline=2.0))
    await s.lane.fail(NotRun())

    assert isinstance(early.exception(), DeadlineExpired)
    assert s.lane.ids == [2] and not late.done()


@pytest.mark.parametrize("how", ["cancelled", "late"])
async def test_a_prepared_batch_comes_back_when_a_member_goes_and_is_formed_anew(how: str) -> None:
    s = scene(max_rows=2)
    first, *others = await s.submit(*(request(id) for id in range(6)))
    assert s.lane.prepared == [2, 3]
    if how == "cancelled":
        others[1].cancel()
    else:
        others[1].set_exception(DeadlineExpired("too late", model="shop.tiny"))
        others[1].exception()
    await settle()
    await s.lane.finish()

    assert (s.lane.ids, s.lane.prepared) == ([3, 4], [])
    await s.lane.finish()
    await s.lane.finish()
    assert ids(first.result()) == [0]
    assert [rows_of(batch) for batch in s.lane.started] == [[0, 1], [3, 4], [5]]
    assert not s.lane.busy and s.batcher.queued() == 0


async def test_a_prepared_batch_comes_back_for_a_more_urgent_request() -> None:
    s = scene(max_rows=2)
    await s.submit(*(request(id) for id in range(4)))
    await s.submit(request(9, priority=5))
    [urgent] = await s.submit(request(10, priority=1))
    await s.lane.finish()

    assert s.lane.ids == [10, 2]
    await s.lane.finish()
    assert ids(urgent.result()) == [10]
    await s.lane.finish()
    assert [rows_of(batch) for batch in s.lane.started] == [[0, 1], [10, 2], [3, 9]]


async def test_a_running_batch_is_never_taken_out() -> None:
    s = scene(max_rows=1)
    futures = await s.submit(request(0), request(1))
    futures[0].cancel()
    await s.lane.finish()
    futures[1].cancel()
    await settle()

    assert s.lane.ids == [1] and s.lane.busy
    await s.lane.finish()


async def test_a_lane_that_runs_what_was_recalled_answers_those_who_are_left() -> None:
    s = scene(max_rows=2)
    s.attach(Stubborn())
    futures = await s.submit(*(request(id) for id in range(6)))
    futures[2].cancel()
    await settle()
    while s.lane.busy:
        await s.lane.finish()

    assert [ids(future.result()) for future in futures if not future.cancelled()] == [[0], [1], [3], [4], [5]]
    assert [rows_of(batch) for batch in s.lane.started] == [[0, 1], [2, 3], [4, 5]]


async def test_a_worker_that_ends_fails_what_it_had_and_what_waits_and_nothing_is_run_again() -> None:
    s = scene(max_rows=2)
    futures = await s.submit(*(request(id) for id in range(5)))
    [other] = await s.submit(request(9, group=("other",)))
    await s.lane.crash()

    errors = [error for future in (*futures, other) if isinstance(error := future.exception(), WorkerCrashed)]
    assert len(set(map(id, errors))) == 6
    waited = "model 'shop.tiny': its worker ended before the request's turn came"
    had = "the worker of shop was ended by signal SIGKILL"
    assert [(str(error), error.may_have_run) for error in errors] == [(had, True)] * 4 + [(waited, False)] * 2
    assert len(s.lane.batches) == 2 and s.batcher.queued() == 0
    await asyncio.wait_for(s.batcher.finished(), 1)


async def test_members_that_were_to_be_run_again_fail_with_the_worker_too() -> None:
    s = scene()
    futures = await s.submit(request(1), request(2), request(3))
    await s.lane.fail(ValueError("bad"))
    await s.lane.crash()

    assert all(isinstance(future.exception(), WorkerCrashed) for future in futures)
    assert len(s.lane.batches) == 2 and s.batcher.queued() == 0


async def test_a_batcher_goes_on_with_another_lane() -> None:
    s = scene(max_rows=2)
    await s.submit(request(0))
    s.clock.advance(1.0)
    await s.lane.finish()
    await s.lane.crash()
    dead = [(await s.submit(request(id)))[0] for id in (1, 2)]
    assert all(isinstance(future.exception(), WorkerCrashed) for future in dead)
    assert s.batcher.drain_seconds() == 1.0

    s.attach(PuppetLane())
    futures = await s.submit(request(3), request(4), request(5), request(6))
    assert (s.lane.ids, s.lane.prepared) == ([3, 4], [5, 6])
    await s.lane.finish()
    await s.lane.finish()
    assert [ids(future.result()) for future in futures] == [[3], [4], [5], [6]]
    assert s.batcher.tally.released() == {"IDLE": 3, "FULL": 2}


async def test_the_end_of_a_lane_that_was_replaced_harms_nobody_who_waits() -> None:
    s = scene()
    [lost] = await s.submit(request(1))
    old = s.lane
    [waiting] = await s.submit(request(2))
    s.attach(PuppetLane())
    await old.crash()

    assert isinstance(lost.exception(), WorkerCrashed)
    await s.lane.finish()
    assert ids(waiting.result()) == [2]


async def test_what_is_prepared_is_given_up_too() -> None:
    s = scene(max_rows=1)
    futures = await s.submit(*(request(id) for id in range(4)))
    s.batcher.abandon("it was unloaded")
    await settle()

    assert all(isinstance(future.exception(), Draining) for future in futures)
    assert not s.lane.busy and len(s.lane.batches) == 2
    await asyncio.wait_for(s.batcher.finished(), 1)


async def test_a_request_that_comes_right_after_giving_up_is_served() -> None:
    s = scene(max_rows=1)
    await s.submit(request(0), request(1))
    s.batcher.abandon("it was unloaded")
    later = await s.submit(request(2), request(3), request(4))

    assert (s.lane.ids, s.lane.prepared) == ([2], [3])
    for _ in later:
        await s.lane.finish()
    assert [ids(future.result()) for future in later] == [[2], [3], [4]]


async def test_finished_waits_for_what_is_prepared() -> None:
    s = scene(max_rows=1)
    await s.submit(request(0), request(1))
    finished = asyncio.ensure_future(s.batcher.finished())
    await s.lane.finish()
    assert s.lane.ids == [1] and not finished.done()
    await s.lane.finish()

    assert finished.done()


async def test_a_deadline_that_passes_before_the_second_run_says_that_the_request_has_run() -> None:
    s = scene()
    late, _ = await s.submit(request(1, deadline=2.0), request(2, deadline=1.0))
    await s.lane.fail(ValueError("bad"))
    s.clock.advance(2.0)
    await s.lane.finish()

    with pytest.raises(DeadlineExpired, match="passed in the queue, before it was run again"):
        late.result()


async def test_two_fronts_share_a_lane_and_each_gets_its_own_answers_in_order() -> None:
    lane, clock = PuppetLane(), Clock()
    fronts = [Scene(BatchPolicy(max_rows=2), lane, clock) for _ in range(2)]
    answered: list[float] = []
    for front, first in zip(fronts, (0, 100), strict=True):
        for future in await front.submit(*(request(first + id) for id in range(5))):
            future.add_done_callback(lambda done: answered.extend(ids(done.result())))
    assert len(lane.inside) == 4
    while lane.busy:
        await lane.finish()

    assert [id for id in answered if id < 100] == [0, 1, 2, 3, 4]
    assert [id for id in answered if id >= 100] == [100, 101, 102, 103, 104]
    assert [front.batcher.queued() for front in fronts] == [0, 0]


async def test_a_batch_whose_turn_comes_as_its_last_member_goes_is_run() -> None:
    s = scene(max_rows=1)
    _, gone, later = await s.submit(request(0), request(1), request(2))
    s.lane.inside[0].end.set_result(BatchResult({"y": np.zeros((1, 1))}))
    gone.cancel()
    await settle()

    assert (s.lane.ids, s.lane.prepared) == ([1], [2])
    await s.lane.finish()
    await s.lane.finish()
    assert ids(later.result()) == [2]


async def test_giving_up_does_not_wait_for_a_lane_that_runs_on() -> None:
    s = scene(max_rows=2)
    s.attach(Stubborn())
    futures = await s.submit(*(request(id) for id in range(5)))
    s.batcher.abandon("it was unloaded")
    assert all(isinstance(future.exception(), Draining) for future in futures)
    await asyncio.wait_for(s.batcher.finished(), 1)

    [later] = await s.submit(request(9))
    assert len(s.lane.inside) == 3
    while s.lane.busy:
        await s.lane.finish()
    assert ids(later.result()) == [9]
