"""Random schedules against the batcher: nothing lost, answered or run twice, too late, too large or out of order."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.server.serving.puppet import PuppetLane, Scene, ids, request, rows_of, scene, settle

from mercato_server.contract.batch import JoinedBatch
from mercato_server.errors import DeadlineExpired, WorkerCrashed
from mercato_server.serving.admission import Callers, Permit, Pool
from mercato_server.serving.lines import AGED
from mercato_server.serving.request import Answer


@dataclass
class Caller:
    """What one caller asked for, and in which batches its rows were run."""

    id: int
    rows: int
    cost: int
    group: str
    deadline: float
    name: str
    priority: int
    since: float
    future: asyncio.Future[Answer]
    runs: list[int] = field(default_factory=list)

    def level(self, now: float) -> int:
        """Its priority, less what it has gained by waiting."""
        if self.priority == 1:
            return 1
        step = AGED * (self.deadline - self.since) / (self.priority - 1)
        return max(1, self.priority - int((now - self.since) / step + 1e-9))


class Schedules(RuleBasedStateMachine):
    """The lane has two batches at most; the machine decides when the first one ends and how, or kills its worker."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.callers: list[Caller] = []
        self.given = self.started = 0
        self.pool = Pool(max_requests=10**6, max_bytes=10**9)
        self.quotas = Callers()

    @initialize(max_rows=st.integers(1, 6), max_cost=st.none() | st.integers(1, 30))
    def start(self, max_rows: int, max_cost: int | None) -> None:
        self.limits = (max_rows, max_cost or 10**9)
        self.scene: Scene = self.loop.run_until_complete(_made(max_rows=max_rows, max_cost=max_cost))
        self.attach()

    @rule(
        rows=st.integers(1, 4),
        cost=st.integers(0, 20),
        group=st.sampled_from("ab"),
        patience=st.lists(st.integers(1, 12), min_size=1, max_size=3),
        name=st.sampled_from("xyz"),
        priority=st.integers(1, 3),
    )
    def submit(self, rows: int, cost: int, group: str, patience: list[int], name: str, priority: int) -> None:
        async def all_in_one_turn() -> None:
            for seconds in patience:
                id, now = len(self.callers), self.now
                made = request(
                    id, rows, deadline=now + seconds, group=(group,), cost=cost, caller=name, priority=priority
                )
                made.permit = Permit((self.pool,), self.quotas, name, rows)
                future = self.scene.batcher.submit(made)
                future.add_done_callback(partial(_released, made.permit))
                self.callers.append(Caller(id, rows, cost, group, now + seconds, name, priority, now, future))
            await settle()

        self.do(all_in_one_turn())

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        open_ones = [caller for caller in self.callers if not caller.future.done()]
        if open_ones:
            data.draw(st.sampled_from(open_ones)).future.cancel()
            self.do(settle())

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds: int) -> None:
        self.scene.clock.advance(seconds)

    @precondition(lambda self: self.scene.lane.busy)
    @rule()
    def complete(self) -> None:
        open_ones = [caller for caller in self.running if not caller.future.done()]
        self.do(self.scene.lane.finish())
        for caller in open_ones:
            assert ids(caller.future.result()) == [caller.id] * caller.rows

    @precondition(lambda self: self.scene.lane.busy)
    @rule()
    def fail(self) -> None:
        running = self.running
        self.do(self.scene.lane.fail(ValueError("told to")))
        if len(running) == 1:
            assert running[0].future.cancelled() or isinstance(running[0].future.exception(), ValueError)
        else:
            told = [caller.future for caller in running if caller.future.done() and not caller.future.cancelled()]
            assert all(isinstance(future.exception(), DeadlineExpired) for future in told)

    @rule()
    def crash(self) -> None:
        waiting = [caller for caller in self.callers if not caller.future.done()]
        self.do(self.scene.lane.crash())
        assert all(isinstance(caller.future.exception(), WorkerCrashed) for caller in waiting if self.lost(caller))

    def lost(self, caller: Caller) -> bool:
        """Whether a worker's end was what the caller heard of; it may have gone just before, or waited too long."""
        return not caller.future.cancelled() and not isinstance(caller.future.exception(), DeadlineExpired)

    @precondition(lambda self: self.scene.lane.dead)
    @rule()
    def attach(self) -> None:
        self.scene.attach(PuppetLane(self.scene.clock))
        self.given = self.started = 0

    @invariant()
    def a_lane_has_two_batches_at_most(self) -> None:
        assert len(self.scene.lane.inside) <= 2

    @invariant()
    def an_idle_lane_leaves_nobody_waiting(self) -> None:
        if not self.scene.lane.busy:
            assert all(caller.future.done() for caller in self.callers)
            assert self.scene.batcher.queued() == 0
            assert (self.pool.requests, self.pool.bytes, self.quotas.requests) == (0, 0, {})

    @invariant()
    def who_waits_is_counted(self) -> None:
        inside = [id for run in self.scene.lane.inside for id in rows_of(run.batch)]
        again = [c for c in self.callers if not c.future.done() and c.runs and c.id not in inside]
        assert self.scene.batcher.queued() == len(self.waiting(inside)) + len(again)

    @property
    def now(self) -> float:
        return self.scene.clock.now / 1e9

    def waiting(self, inside: Sequence[float]) -> list[Caller]:
        return [c for c in self.callers if not c.future.done() and not c.runs and c.id not in inside]

    def members(self, batch: JoinedBatch) -> list[Caller]:
        return [self.callers[int(id)] for id, _ in groupby(rows_of(batch))]

    @property
    def running(self) -> list[Caller]:
        return self.members(self.scene.lane.inside[0].batch)

    def do(self, step: "asyncio.Future[None] | object") -> None:
        """Let the step happen, then look at the batches that the lane got, and at those that began."""
        self.loop.run_until_complete(step)  # type: ignore[arg-type]
        lane = self.scene.lane
        for batch in lane.batches[self.given :]:
            self.check_given(batch, [id for run in lane.inside for id in rows_of(run.batch)])
        for batch in lane.started[self.started :]:
            self.check_started(self.members(batch))
        self.given, self.started = len(lane.batches), len(lane.started)

    def check_given(self, batch: JoinedBatch, inside: Sequence[float]) -> None:
        members = self.members(batch)
        assert sum(member.rows for member in members) == batch.rows
        assert len({member.group for member in members}) == 1
        if any(batch is other for other in self.scene.lane.second):
            assert not members[0].runs
        if members[0].runs:
            assert {len(member.runs) for member in members} == {len(members[0].runs)}
            assert len(members) < members[0].runs[-1]
            return
        assert len(members) == 1 or not self.passes_limits(members)
        self.check_order(members, [c for c in self.waiting(inside) if c.group == members[0].group])

    def check_order(self, members: list[Caller], left: list[Caller]) -> None:
        """Nobody is left waiting who is more urgent than a member, or the same caller's with an earlier deadline."""
        for member in members:
            level = member.level(self.now)
            assert not any(other.level(self.now) < level for other in left)
            rivals = [other for other in left if other.name == member.name and other.level(self.now) == level]
            assert not any(other.deadline < member.deadline for other in rivals)

    def check_started(self, members: list[Caller]) -> None:
        assert all(self.now < caller.deadline for caller in members)
        assert any(not caller.future.done() for caller in members)
        for caller in members:
            caller.runs.append(len(members))

    def passes_limits(self, callers: list[Caller]) -> bool:
        return sum(c.rows for c in callers) > self.limits[0] or sum(c.cost for c in callers) > self.limits[1]

    def teardown(self) -> None:
        if not hasattr(self, "scene"):
            self.loop.close()
            return
        if self.scene.lane.dead:
            self.attach()
        self.submit(1, 0, "a", [10**6] * 3, "x", 3)
        while self.scene.lane.busy:
            self.complete()
        assert all(ids(caller.future.result()) == [caller.id] for caller in self.callers[-3:])
        assert (self.pool.requests, self.pool.bytes) == (0, 0)
        self.loop.run_until_complete(self.scene.batcher.finished())
        for caller in self.callers:
            assert caller.future.done()
            late = not caller.future.cancelled() and isinstance(caller.future.exception(), DeadlineExpired)
            assert not late or not caller.runs or caller.runs[0] > 1
        self.loop.close()


def _released(permit: Permit, _: object) -> None:
    permit.release()


async def _made(*, max_rows: int, max_cost: int | None) -> Scene:
    """A batcher belongs to the loop it is made in."""
    return scene(max_rows=max_rows, max_cost=max_cost)


TestSchedules = Schedules.TestCase
TestSchedules.settings = settings(max_examples=150, stateful_step_count=30, deadline=None, derandomize=True)
