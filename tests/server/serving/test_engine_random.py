"""Random schedules against a whole engine: quotas, bounds, displacement, parts, known rows, faults, crashes, cancels.

Every request ends once the lane goes on, with its own rows or an error; permits and counts come back to nothing; pools
never hold more than their bounds; a batch is within its limits and never begun after its earliest deadline.
"""

import asyncio
from functools import partial
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.server.serving.puppet import Clock, PuppetLane, engine, settle

from mercato_plugin import BatchPolicy, ModelSpec, Tensor
from mercato_server.contract.batch import JoinedBatch
from mercato_server.contract.lane import NotRun
from mercato_server.errors import InvalidRequest, Overloaded, PluginFault, RequestError
from mercato_server.serving.admission import Callers, Pool
from mercato_server.serving.engine import Bounds, Engine
from mercato_server.serving.process import Process
from mercato_server.serving.request import Answer, Request

X = Tensor("float64", ("batch", 1))
GUILTY = 7.0
MANY = 10**6


class Engines(RuleBasedStateMachine):
    """One engine before a puppet lane; rows are small numbers, so that they meet each other in the cache."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.noise: list[Any] = []
        self.loop.set_exception_handler(lambda _, facts: self.noise.append(facts))
        self.asked: list[tuple[Request, asyncio.Future[Answer]]] = []
        self.begun = 0

    @initialize(
        rows=st.integers(1, 5),
        cost=st.sampled_from([None, None, 10, 25]),
        requests=st.sampled_from([4, 12, MANY]),
        size=st.sampled_from([60, MANY]),
        shared=st.sampled_from([6, MANY]),
        cache=st.sampled_from([0, 0, 3000, MANY]),
    )
    def start(self, rows: int, cost: int | None, requests: int, size: int, shared: int, cache: int) -> None:
        self.clock = Clock()
        self.limits = rows, cost or MANY
        callers = Callers(weights={"x": 2.0, "y": 0.01}, quotas={"z": 3})
        self.process = Process(Pool(max_requests=shared, max_bytes=MANY), callers)
        policy = BatchPolicy(max_rows=rows, max_cost=cost)
        spec = ModelSpec(name="shop.tiny", inputs={"x": X}, outputs={"y": X}, batch=policy)
        bounds = Bounds(max_requests=requests, max_bytes=size, cache_bytes=cache)
        self.attached = [PuppetLane(self.clock)]
        made = partial(engine, spec, self.lane, bounds, process=self.process, clock=self.clock, chance=lambda: 0.5)
        self.engine: Engine = self.do(_called(made))

    @rule(
        values=st.lists(st.integers(0, 9), min_size=1, max_size=12),
        patience=st.sampled_from([1, 3, 8, 20, 300]),
        caller=st.sampled_from("wxyz"),
        priority=st.sampled_from([1, 5, 9]),
        group=st.sampled_from("ab"),
        each=st.integers(0, 12),
        nbytes=st.sampled_from([0, 5, 30]),
        count=st.integers(1, 3),
    )
    def ask(
        self,
        values: list[int],
        patience: int,
        caller: str,
        priority: int,
        group: str,
        each: int,
        nbytes: int,
        count: int,
    ) -> None:
        async def all_in_one_turn() -> None:
            for _ in range(count):
                self._ask(values, patience, caller, priority, group, each, nbytes)
            await settle()

        self.do(all_in_one_turn())

    def _ask(
        self, values: list[int], patience: int, caller: str, priority: int, group: str, each: int, nbytes: int
    ) -> None:
        x = np.array(values, float).reshape(-1, 1)
        deadline = self.clock.now / 1e9 + patience
        costs = np.full(len(values), each)
        made = Request(
            {"x": x}, len(values), deadline, (group,), each * len(values), nbytes, priority, costs=costs, caller=caller
        )
        try:
            future = self.engine.submit(made)
        except Overloaded:
            return
        future.add_done_callback(partial(_released, made))
        self.asked.append((made, future))

    @precondition(lambda self: self.lane.busy)
    @rule(refuse=st.booleans())
    def run(self, refuse: bool) -> None:
        batch = self.lane.inside[0].batch
        if GUILTY in batch.inputs["x"]:
            self.do(self.lane.fail(PluginFault("guilty", model="shop.tiny")))
        else:
            rejected = {0: ("x", "told to")} if refuse else {}
            self.do(self.lane.finish(outputs={"y": batch.inputs["x"] * 10}, rejected=rejected))

    @precondition(lambda self: self.lane.busy)
    @rule(how=st.sampled_from([NotRun(), ValueError("odd"), InvalidRequest.of("inputs.x", "odd"), MemoryError()]))
    def fail(self, how: Exception) -> None:
        self.do(self.lane.fail(how))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        open_ones = [future for _, future in self.asked if not future.done()]
        if open_ones:
            data.draw(st.sampled_from(open_ones)).cancel()
            self.do(settle())

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def crash(self) -> None:
        self.do(self.lane.crash())
        self.attached.append(PuppetLane(self.clock))
        self.begun = 0
        self.engine.batcher.attach(self.lane)

    @invariant()
    def answers_are_ones_own(self) -> None:
        for made, future in self.asked:
            if future.done() and not future.cancelled() and future.exception() is None:
                assert future.result().outputs["y"].tolist() == (made.inputs["x"] * 10).tolist()
                assert 0 <= future.result().receipt.cached_rows <= made.rows

    @invariant()
    def bounds_hold(self) -> None:
        if not self.asked:
            return
        for pool in (self.engine.pool, self.process.pool):
            assert pool.requests <= pool.max_requests
            assert pool.bytes <= max(pool.max_bytes, 30)
        assert self.process.callers.requests.get("z", 0) <= 3

    @invariant()
    def nobody_waits_before_an_idle_lane(self) -> None:
        if self.asked and not any(lane.busy for lane in self.attached):
            assert all(future.done() for _, future in self.asked)
            assert self.engine.batcher.queued() == 0

    @property
    def lane(self) -> PuppetLane:
        return self.attached[-1]

    def do(self, step: Any) -> Any:
        """Let the step happen, then look at the batches that began."""
        result = self.loop.run_until_complete(step)
        assert not self.noise
        for batch in self.lane.started[self.begun :]:
            self.check_begun(batch)
        self.begun = len(self.lane.started)
        return result

    def check_begun(self, batch: JoinedBatch) -> None:
        assert batch.rows <= self.limits[0]
        assert batch.deadline is not None and self.clock.now / 1e9 < batch.deadline

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            while self.lane.busy:
                self.run(False)
            assert all(future.done() for _, future in self.asked)
            pools = [self.engine.pool, self.process.pool]
            assert [(pool.requests, pool.bytes) for pool in pools] == [(0, 0)] * 2
            assert (self.process.callers.requests, self.engine.batcher.queued()) == ({}, 0)
            self.loop.run_until_complete(self.engine.batcher.finished())
            assert all(isinstance(error, RequestError | ValueError | MemoryError) for error in self.errors())
            assert not self.noise
        self.loop.close()

    def errors(self) -> list[BaseException]:
        ended = [future for _, future in self.asked if not future.cancelled()]
        return [error for future in ended if (error := future.exception()) is not None]


async def _called(made: partial[Engine]) -> Engine:
    """An engine belongs to the loop it is made in."""
    return made()


def _released(made: Request, _: object) -> None:
    if made.permit is not None:  # known rows need none
        made.permit.release()


TestEngines = Engines.TestCase
TestEngines.settings = settings(max_examples=150, stateful_step_count=30, deadline=None, derandomize=True)
