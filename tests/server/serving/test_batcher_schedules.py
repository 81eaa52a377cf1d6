"""Random schedules against the batcher: nothing lost, nothing answered twice, nothing run too late or too large."""

import asyncio
from dataclasses import dataclass, field
from itertools import groupby

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.server.serving.puppet import Scene, ids, request, scene, settle

from mercato_server.errors import DeadlineExpired
from mercato_server.serving.request import Answer


@dataclass
class Caller:
    """What one caller asked for, and in which batches its rows were run."""

    id: int
    rows: int
    cost: int
    group: str
    deadline: float
    future: asyncio.Future[Answer]
    runs: list[int] = field(default_factory=list)

    @property
    def waits(self) -> bool:
        return not self.future.done() and not self.runs


class Schedules(RuleBasedStateMachine):
    """The lane runs one batch at a time; the machine decides when a batch ends and how."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.callers: list[Caller] = []
        self.seen = 0

    @initialize(max_rows=st.integers(1, 6), max_cost=st.none() | st.integers(1, 30))
    def start(self, max_rows: int, max_cost: int | None) -> None:
        self.limits = (max_rows, max_cost or 10**9)
        self.scene: Scene = self.loop.run_until_complete(_made(max_rows=max_rows, max_cost=max_cost))

    @rule(
        rows=st.integers(1, 4),
        cost=st.integers(0, 20),
        group=st.sampled_from("ab"),
        patience=st.integers(1, 6),
        count=st.integers(1, 3),
    )
    def submit(self, rows: int, cost: int, group: str, patience: int, count: int) -> None:
        async def all_in_one_turn() -> None:
            for _ in range(count):
                id = len(self.callers)
                deadline = self.scene.clock.now / 1e9 + patience
                made = request(id, rows, deadline=deadline, group=(group,), cost=cost)
                future = self.scene.batcher.submit(made)
                self.callers.append(Caller(id, rows, cost, group, deadline, future))
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

    @invariant()
    def an_idle_lane_leaves_nobody_waiting(self) -> None:
        if not self.scene.lane.busy:
            assert all(caller.future.done() for caller in self.callers)
            assert self.scene.batcher.queued() == 0
            assert self.queued_batches() == 0

    @invariant()
    def who_waits_is_in_the_estimate(self) -> None:
        rows = sum(caller.rows for caller in self.callers if caller.waits)
        assert self.queued_batches() >= rows / self.limits[0] - 1e-9

    def queued_batches(self) -> float:
        """What the estimate counts besides the batch that runs."""
        self.scene.batcher.batch_seconds = 1.0
        return self.scene.batcher.drain_seconds() - 1

    @property
    def running(self) -> list[Caller]:
        return [self.callers[int(id)] for id, _ in groupby(self.scene.lane.ids)]

    def do(self, step: "asyncio.Future[None] | object") -> None:
        """Let the step happen, then look at the batch that the lane got by it, if any."""
        self.loop.run_until_complete(step)  # type: ignore[arg-type]
        started = len(self.scene.lane.batches)
        assert started <= self.seen + 1
        if started > self.seen:
            self.seen = started
            self.check_batch()

    def check_batch(self) -> None:
        members = self.running
        assert self.scene.lane.ids == [caller.id for caller in members for _ in range(caller.rows)]
        assert len({caller.group for caller in members}) == 1
        now = self.scene.clock.now / 1e9
        assert all(not caller.future.done() and now < caller.deadline for caller in members)
        if len(members) > 1:
            assert sum(caller.rows for caller in members) <= self.limits[0]
            assert sum(caller.cost for caller in members) <= self.limits[1]
        if members[0].runs:
            self.check_retry(members)
        else:
            waiting = [caller for caller in self.callers if caller.waits and caller.group == members[0].group]
            assert members == waiting[: len(members)]
        for caller in members:
            caller.runs.append(len(members))

    def check_retry(self, members: list[Caller]) -> None:
        assert len(members) == 1
        assert len(members[0].runs) == 1 and members[0].runs[0] > 1

    def teardown(self) -> None:
        if not hasattr(self, "scene"):
            self.loop.close()
            return
        while self.scene.lane.busy:
            self.complete()
        self.loop.run_until_complete(self.scene.batcher.finished())
        for caller in self.callers:
            assert caller.future.done()
            late = not caller.future.cancelled() and isinstance(caller.future.exception(), DeadlineExpired)
            assert not late or not caller.runs or caller.runs[0] > 1
        self.loop.close()


async def _made(*, max_rows: int, max_cost: int | None) -> Scene:
    """A batcher belongs to the loop it is made in."""
    return scene(max_rows=max_rows, max_cost=max_cost)


TestSchedules = Schedules.TestCase
TestSchedules.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True)
