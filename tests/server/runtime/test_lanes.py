"""The lane to a thread and the lane to a process side by side: serving cannot tell which it has."""

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import pytest
from tests.server.gate import install
from tests.server.runtime.test_process import PLUGIN, Stop, asked, placement

from mercato_server.contract.lane import NotRun
from mercato_server.contract.plugin import Discovery, Numbered, PluginInfo
from mercato_server.errors import InvalidRequest, PluginFault, WorkerCrashed
from mercato_server.plugins.host import load_one
from mercato_server.runtime.inline import InlineHost
from mercato_server.runtime.process import ProcessHost, WorkerLimits

NAME = "mercato-both"
INFO = PluginInfo(NAME, "1.0", "mercato_both", "mercato_both")


@pytest.fixture(params=["inline", "process"])
async def lane(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    path = install(tmp_path / "site", NAME, PLUGIN.replace("TOP", "").replace("LOAD", "pass"))
    monkeypatch.setenv("FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.syspath_prepend(path)
    importlib.invalidate_caches()

    def found(keeping: Collection[Numbered], alone: bool) -> Discovery:
        return load_one(INFO, lambda _: {})

    host: Any = InlineHost(INFO, found) if request.param == "inline" else ProcessHost(INFO, {}, WorkerLimits())
    await host.start()
    made = host.lane("shop.double", placement(tmp_path / "artifact"))
    await made.load()
    assert (await made.warm()).providers == ("cpu",)
    yield made
    await made.close()
    await host.close()
    sys.modules.pop("mercato_both", None)


async def test_answers_and_rejected_rows(lane: Any) -> None:
    result = await lane.run(asked(2, 3))
    assert result.outputs["y"].tolist() == [[4, 2], [6, 2]]
    assert (result.provider, dict(result.rejected), dict(result.truncated)) == ("cpu", {}, {})
    assert min(result.pre_ns, result.compute_ns, result.post_ns) > 0
    rejected = await lane.run(asked(-8, 3))
    assert rejected.rejected == {1: ("x", "is odd")}


async def test_errors(lane: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^model 'shop\.double': inputs\.x: is bad$") as refused:
        await lane.run(asked(-4))
    assert [(v.field, v.description) for v in refused.value.violations] == [("inputs.x", "is bad")]
    for mood in (-5, -9):  # an exception, and an exit
        with pytest.raises(PluginFault, match=r"^model 'shop\.double' failed \(id [0-9a-f]{12}\)$"):
            await lane.run(asked(mood))
    assert (await lane.run(asked(2))).outputs["y"].tolist() == [[4, 2]]


async def test_what_is_late_or_cancelled_before_its_turn_is_not_run(lane: Any, tmp_path: Path) -> None:
    stop = Stop(tmp_path, "run")
    with pytest.raises(NotRun):
        await lane.run(asked(-1, deadline=0.001))
    running = asyncio.create_task(lane.run(asked(-1)))
    await stop.reached()
    prepared = asyncio.create_task(lane.run(asked(-1)))  # would stop there too
    await asyncio.sleep(0)
    prepared.cancel()
    with pytest.raises(asyncio.CancelledError):
        await prepared
    await stop.open()
    assert (await running).outputs["y"].tolist() == [[-2, 2]]
    assert (await lane.run(asked(2))).outputs["y"].tolist() == [[4, 2]]


async def test_a_batch_that_is_recalled_before_its_turn_comes_back_and_one_that_runs_does_not(
    lane: Any, tmp_path: Path
) -> None:
    stop = Stop(tmp_path, "run")
    first, second, third = asked(-1), asked(-1), asked(3)
    running = asyncio.create_task(lane.run(first))
    await stop.reached()
    prepared = asyncio.create_task(lane.run(second))  # would stop there too
    await asyncio.sleep(0)
    lane.recall(second)
    lane.recall(first)
    lane.recall(third)  # is not in the lane
    await stop.open()
    assert (await running).outputs["y"].tolist() == [[-2, 2]]
    with pytest.raises(NotRun):
        await prepared
    assert (await lane.run(third)).outputs["y"].tolist() == [[6, 2]]


async def test_closing_finishes_what_runs_and_may_be_repeated(lane: Any, tmp_path: Path) -> None:
    stop = Stop(tmp_path, "run")
    running = asyncio.create_task(lane.run(asked(-1)))
    await stop.reached()
    closing = asyncio.create_task(lane.close())
    await stop.open()
    await closing
    assert (await running).outputs["y"].tolist() == [[-2, 2]]
    await lane.close()


async def test_a_closed_lane_runs_nothing(lane: Any) -> None:
    await lane.close()
    with pytest.raises(WorkerCrashed, match="before the request's turn came"):
        await asyncio.wait_for(lane.run(asked(2)), 10)
