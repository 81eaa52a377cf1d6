"""Predict: how a request is weighed and grouped, and what its caller is told when the answer is late."""

import asyncio
import time

import numpy as np
import pytest
from tests.server.serving.puppet import PuppetLane, engine, settle

from mercato.v1 import prediction_pb2, tensor_pb2
from mercato_plugin import Axis, ModelSpec, Tensor
from mercato_server.contract.call import Call
from mercato_server.contract.plugin import PluginInfo
from mercato_server.contract.state import State
from mercato_server.errors import DeadlineExpired
from mercato_server.rpc.access import Access
from mercato_server.rpc.codec import WIRE
from mercato_server.rpc.prediction import Prediction
from mercato_server.serving.catalog import Catalog, Version

INNER = Axis("width", max=8)
GRID = Tensor("float32", ("batch", Axis("length", max=4096), INNER), ragged=True)
SPEC = ModelSpec(name="shop.grid", inputs={"x": GRID}, outputs={"y": GRID})


class Scene:
    """One model before a puppet lane."""

    def __init__(self) -> None:
        self.lane = PuppetLane()
        self.version = Version("shop.grid", 1, SPEC, PluginInfo("mercato-shop", "1.0", "shop", "shop"))
        self.version.engine = engine(SPEC, self.lane)
        self.pool = self.version.engine.pool
        catalog = Catalog()
        catalog.add(self.version)
        for state in (State.LOADING, State.WARMING, State.AVAILABLE):
            catalog.move(self.version, state)
        self.prediction = Prediction(catalog, Access(), 1000, 10_000)

    async def ask(self, *lengths: int, width: int = 1, seconds: float = 100.0) -> "asyncio.Task[bytes]":
        """A call whose rows have these lengths; it stands in the queue, or runs, when this returns."""
        shape = [len(lengths), max(lengths), width]
        data = bytes(4 * sum(lengths) * width)
        tensor = tensor_pb2.Tensor(dtype=WIRE["float32"], shape=shape, data=data, row_lengths=lengths)
        message = prediction_pb2.PredictRequest(
            model=prediction_pb2.ModelRef(name="shop.grid"), inputs=[tensor_pb2.NamedTensor(name="x", tensor=tensor)]
        )
        now = time.monotonic()
        data = message.SerializeToString()
        call = Call("Predict", data, {}, now, now + seconds, bounded=False, nbytes=len(data))
        task = asyncio.create_task(self.prediction.predict(call))
        for _ in range(16):
            await settle()
        return task


async def test_a_late_answer_is_told_with_the_models_name_and_that_it_may_have_run() -> None:
    s = Scene()
    task = await s.ask(2, seconds=0.05)
    assert s.lane.busy
    with pytest.raises(DeadlineExpired, match="'shop.grid': the answer was not ready in time; the request may have"):
        await task
    assert (s.pool.requests, s.pool.bytes) == (0, 0)


async def test_a_timeout_of_the_lane_is_no_passed_deadline() -> None:
    s = Scene()
    task = await s.ask(2)
    await s.lane.fail(TimeoutError("something else"))
    with pytest.raises(TimeoutError, match="something else"):
        await task


async def test_a_request_weighs_what_it_holds() -> None:
    s = Scene()
    task = await s.ask(4096, *[0] * 9)
    assert s.pool.bytes == 4 * 4096 * 10
    task.cancel()


async def test_a_request_weighs_its_message_at_least() -> None:
    s = Scene()
    task = await s.ask(3)
    assert s.pool.bytes > 4 * 3
    task.cancel()


async def test_rows_of_other_inner_sizes_never_share_a_batch() -> None:
    s = Scene()
    first = await s.ask(1)
    others = [await s.ask(2, width=2), await s.ask(3, width=3), await s.ask(1, width=2)]
    shapes = []
    for _ in range(3):
        shapes.append(s.lane.batches[-1].inputs["x"].shape)
        await s.lane.finish(outputs={"y": np.asarray(s.lane.batches[-1].inputs["x"])})
    assert shapes == [(1, 1, 1), (2, 2, 2), (1, 3, 3)]
    await asyncio.gather(first, *others)
