"""Random requests, ends and goings before the cache: every answer is what the model says, whatever it was made of."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.server.serving.cache_puppet import Scene, Started, receipt, submitted
from tests.server.serving.puppet import FAR, settle

from mercato_server.contract.batch import Array
from mercato_server.contract.receipt import CacheOutcome
from mercato_server.errors import DeadlineExpired, PluginFault
from mercato_server.serving.request import Answer, Request
from mercato_server.serving.row_keys import row_keys

NUMBERS = st.lists(st.integers(0, 3), min_size=1, max_size=4)
PARAMETERS = st.sampled_from([{}, {"k": 1}, {"k": 1.0}, {"k": True}, {"k": "1"}])
ALL = 10**6  # bytes, which nothing is ever forgotten in
OUTPUTS = st.sampled_from([(), ("y",), ("t",), ("y", "t")])


def asked(numbers: Sequence[int], dtype: str, parameters: dict[str, Any], outputs: tuple[str, ...]) -> Request:
    """A row is a number in an array of its dtype, and a ragged row of as many cells."""
    lengths = np.array(numbers, np.int64)
    ragged = (np.arange(lengths.max() + 1) < lengths[:, None]).astype(np.int64)
    inputs: dict[str, Array] = {"x": np.array(numbers, dtype)[:, None], "ids": ragged}
    return Request(inputs, len(numbers), FAR, parameters=parameters, lengths={"ids": lengths}, outputs=outputs)


def model(request: Request) -> dict[str, Array]:
    """What is known to be the answer: numbers from the values, texts from all else that may differ."""
    x = request.inputs["x"]
    texts = np.empty(request.rows, object)
    for row, length in enumerate(request.lengths["ids"]):
        texts[row] = repr((x.dtype, request.parameters, request.inputs["ids"][row, :length].tolist()))
    outputs: dict[str, Array] = {"y": np.stack([x[:, 0], x[:, 0] * 2.0], axis=1), "t": texts}
    return {name: array for name, array in outputs.items() if not request.outputs or name in request.outputs}


@dataclass
class Caller:
    """Somebody who waits."""

    request: Request
    future: asyncio.Future[Answer]


class Requests(RuleBasedStateMachine):
    """Runs end in any order and any way; `landed` holds the keys of rows that some run has brought."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.callers: list[Caller] = []
        self.landed: set[bytes] = set()
        self.seen = 0

    @initialize(max_bytes=st.sampled_from([0, 1000, 3000, ALL]))
    def start(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.scene: Scene = self.loop.run_until_complete(_made(max_bytes))

    @rule(
        numbers=NUMBERS,
        dtype=st.sampled_from(["<f4", "<i4"]),
        parameters=PARAMETERS,
        outputs=OUTPUTS,
        priority=st.integers(4, 6),
    )
    def ask(
        self, numbers: list[int], dtype: str, parameters: dict[str, Any], outputs: tuple[str, ...], priority: int
    ) -> None:
        request = asked(numbers, dtype, parameters, outputs)
        request.priority = priority
        future = self.loop.run_until_complete(_submitted(self.scene, request))
        self.callers.append(Caller(request, future))
        if future.done():
            assert future.result().receipt.cache is CacheOutcome.HIT

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        self.land(data.draw(st.sampled_from(self.running)))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), is_fault=st.booleans())
    def fail(self, data: st.DataObject, is_fault: bool) -> None:
        run = data.draw(st.sampled_from(self.running))
        kind = PluginFault if is_fault else DeadlineExpired
        run.end.set_exception(kind("told to", model="shop.tiny"))
        self.loop.run_until_complete(settle())

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if waiting := [caller for caller in self.callers if not caller.future.done()]:
            data.draw(st.sampled_from(waiting)).future.cancel()
            self.loop.run_until_complete(settle())

    @property
    def running(self) -> list[Started]:
        return [run for run in self.scene.started if not run.end.done()]

    @invariant()
    def every_answer_is_the_models(self) -> None:
        for caller in self.callers:
            if caller.future.done() and not caller.future.cancelled() and not caller.future.exception():
                check(caller.future.result(), caller.request)

    @invariant()
    def the_bound_holds(self) -> None:
        assert self.scene.cache.nbytes <= self.max_bytes

    @invariant()
    def what_is_known_is_not_run(self) -> None:
        for run in self.scene.started[self.seen :]:
            assert len(set(keys(run.request))) == run.request.rows
            assert self.max_bytes < ALL or not self.landed.intersection(keys(run.request))
        self.seen = len(self.scene.started)

    @invariant()
    def whoever_waits_waits_for_a_run(self) -> None:
        if any(not caller.future.done() for caller in self.callers):
            assert self.running

    def teardown(self) -> None:
        while self.callers and self.running:
            self.land(self.running[0])
        assert all(caller.future.done() for caller in self.callers)
        if self.callers:
            self.every_answer_is_the_models()
        self.loop.close()

    def land(self, run: Started) -> None:
        run.end.set_result(Answer(model(run.request), receipt()))
        self.loop.run_until_complete(settle())
        self.landed.update(keys(run.request))


async def _made(max_bytes: int) -> Scene:
    """A cache belongs to the loop it is made in."""
    return Scene(max_bytes)


async def _submitted(scene: Scene, request: Request) -> asyncio.Future[Answer]:
    return submitted(scene.cache, request)


def keys(request: Request) -> list[bytes]:
    return row_keys("shop.tiny", "digest", request)


def check(answer: Answer, request: Request) -> None:
    expected = model(request)
    assert answer.outputs.keys() == expected.keys()
    for name, array in answer.outputs.items():
        assert array.dtype == expected[name].dtype and array.tolist() == expected[name].tolist()
    assert answer.receipt.cached_rows in range(request.rows + 1)


TestRequests = Requests.TestCase
TestRequests.settings = settings(derandomize=True, deadline=None, max_examples=100, stateful_step_count=40)
