"""The inline lane: a worker on a thread of its own."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.server.runtime.made import answering, joined, worker

from mercato_plugin import Batch, Model
from mercato_server.errors import LoadFailed, PluginFault
from mercato_server.runtime.inline import InlineLane

NAME = "worker shop.double"


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == NAME]


async def test_it_loads_warms_runs_and_closes_on_one_thread(tmp_path: Path) -> None:
    where: list[str] = []

    class Telling(Model):
        def load(self, ctx: Any) -> None:
            where.append(threading.current_thread().name)

        def preprocess(self, batch: Batch) -> Any:
            where.append(threading.current_thread().name)
            return batch.inputs

    lane = InlineLane(worker(tmp_path, Telling, examples=[{"x": [[1, 2]]}]), "shop.double")
    await lane.load()
    await lane.warm()
    result = await lane.run(joined(1, 2))

    assert result.outputs["y"].tolist() == [[2, 2], [4, 4]]
    assert set(where) == {NAME}
    await lane.close()
    assert threads() == []
    await lane.close()


async def test_a_fault_passes_and_the_lane_goes_on(tmp_path: Path) -> None:
    def moody(batch: Batch, outputs: Any) -> Any:
        if 13 in batch.inputs["x"]:
            raise SystemExit("out of luck")
        return outputs

    lane = InlineLane(worker(tmp_path, answering(moody)), "shop.double")
    await lane.load()
    with pytest.raises(PluginFault):
        await lane.run(joined(13))
    assert (await lane.run(joined(1))).outputs["y"].tolist() == [[2, 2]]
    await lane.close()


async def test_a_load_that_exits_is_a_failed_load_and_ends_the_thread(tmp_path: Path) -> None:
    class Leaving(Model):
        def load(self, ctx: Any) -> None:
            raise SystemExit(1)

    lane = InlineLane(worker(tmp_path, Leaving), "shop.double")
    with pytest.raises(LoadFailed, match="load of shop.double raised SystemExit"):
        await lane.load()
    await lane.close()
    assert threads() == []


async def test_closing_finishes_the_batch_in_flight(tmp_path: Path) -> None:
    started, go = threading.Event(), threading.Event()

    def slow(batch: Batch, outputs: Any) -> Any:
        started.set()
        assert go.wait(10)
        return outputs

    lane = InlineLane(worker(tmp_path, answering(slow)), "shop.double")
    await lane.load()
    running = asyncio.ensure_future(lane.run(joined(1)))
    await asyncio.to_thread(started.wait, 10)
    closing = asyncio.ensure_future(lane.close())
    await asyncio.sleep(0)
    assert not closing.done()
    go.set()
    await closing

    assert (await running).outputs["y"].tolist() == [[2, 2]]
    assert threads() == []


async def test_a_caller_that_went_away_does_not_disturb_the_thread(tmp_path: Path) -> None:
    started, go = threading.Event(), threading.Event()

    def slow(batch: Batch, outputs: Any) -> Any:
        started.set()
        assert go.wait(10)
        return outputs

    lane = InlineLane(worker(tmp_path, answering(slow)), "shop.double")
    await lane.load()
    gone = asyncio.ensure_future(lane.run(joined(1)))
    await asyncio.to_thread(started.wait, 10)
    gone.cancel()
    go.set()

    assert (await lane.run(joined(2))).outputs["y"].tolist() == [[4, 4]]
    assert gone.cancelled()
    await lane.close()


async def test_a_lane_that_never_started_closes(tmp_path: Path) -> None:
    await InlineLane(worker(tmp_path), "shop.double").close()
