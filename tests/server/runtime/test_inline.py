"""The inline host and its lanes: workers on threads of this process."""

import asyncio
import os
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.server.runtime.made import DOUBLE, answering, artifact, double, joined, worker

from mercato_plugin import Batch, Model
from mercato_server.contract.host import Placement
from mercato_server.contract.lane import NotRun
from mercato_server.contract.plugin import Discovery, Numbered, OfferedModel, PluginInfo
from mercato_server.errors import LoadFailed, PluginFault, PluginRefused
from mercato_server.runtime.inline import InlineHost, InlineLane
from mercato_server.store.offered import key_of

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
    loaded = await lane.warm()
    result = await lane.run(joined(1, 2))

    assert result.outputs["y"].tolist() == [[2, 2], [4, 4]]
    assert set(where) == {NAME}
    assert loaded.providers == ("cpu",) and loaded.nbytes >= 0
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


async def held(tmp_path: Path) -> tuple[InlineLane, "asyncio.Task[Any]", threading.Event, list[float]]:
    """A lane that is busy with the batch [1], how to let it go on, and what it has run."""
    started, go, ran = threading.Event(), threading.Event(), list[float]()

    def slow(batch: Batch, outputs: Any) -> Any:
        ran.append(float(batch.inputs["x"][0, 0]))
        started.set()
        assert go.wait(10)
        return outputs

    lane = InlineLane(worker(tmp_path, answering(slow)), "shop.double")
    await lane.load()
    running = asyncio.create_task(lane.run(joined(1)))
    await asyncio.to_thread(started.wait, 10)
    return lane, running, go, ran


async def test_a_batch_whose_deadline_passes_before_its_turn_is_not_run(tmp_path: Path) -> None:
    lane, running, go, ran = await held(tmp_path)
    late = asyncio.create_task(lane.run(replace(joined(2), deadline=time.monotonic())))
    timely = asyncio.create_task(lane.run(replace(joined(3), deadline=time.monotonic() + 1000)))
    await asyncio.sleep(0)
    go.set()

    with pytest.raises(NotRun):
        await late
    await running
    assert (await timely).outputs["y"].tolist() == [[6, 6]]
    assert ran == [1, 3]
    await lane.close()


async def test_a_batch_that_is_cancelled_before_its_turn_is_not_run(tmp_path: Path) -> None:
    lane, running, go, ran = await held(tmp_path)
    gone = asyncio.create_task(lane.run(joined(2)))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    go.set()

    await running
    assert (await lane.run(joined(3))).outputs["y"].tolist() == [[6, 6]]
    assert ran == [1, 3]
    await lane.close()


PLUGIN = PluginInfo("mercato-made", "1.0", "made", "no_such_package")


def offered(model: type[Model] = Model, settings: Any = None) -> OfferedModel:
    made = model()
    made.spec = DOUBLE
    return OfferedModel(PLUGIN, made, DOUBLE, settings)


async def test_a_host_imports_on_a_thread_and_opens_lanes(tmp_path: Path) -> None:
    where: list[threading.Thread] = []

    def find(keeping: Collection[Numbered], alone: bool) -> Discovery:
        where.append(threading.current_thread())
        return Discovery([offered()])

    host = InlineHost(PLUGIN, find)
    [offer] = (await host.start()).models
    assert where[0] is not threading.main_thread() and where[0].daemon
    assert (offer.plugin, offer.spec, offer.key) == (PLUGIN, DOUBLE, key_of(offered()))
    assert host.pid == os.getpid() and host.memory() > 1 << 20

    made = artifact(tmp_path, DOUBLE, {"model": double()}, [{"x": [[1, 2]]}])
    lane = host.lane("shop.double", Placement(made, "cpu", 1))
    await lane.load()
    await lane.warm()
    assert (await lane.run(joined(4))).outputs["y"].tolist() == [[8, 8]]
    await lane.close()
    await host.close()


async def test_a_host_never_ends_on_its_own() -> None:
    host = InlineHost(PLUGIN, lambda *_: Discovery([offered()]))
    await host.start()
    ending = asyncio.ensure_future(host.ended())
    await host.close()
    await asyncio.sleep(0)
    assert not ending.done()
    ending.cancel()


async def test_an_import_that_is_refused_is_told_as_it_is() -> None:
    def find(keeping: Collection[Numbered], alone: bool) -> Discovery:
        raise PluginRefused("NO_HOOK", "mercato-made has no hook")

    with pytest.raises(PluginRefused, match="has no hook") as caught:
        await InlineHost(PLUGIN, find).start()
    assert caught.value.code == "NO_HOOK"


async def test_an_import_that_does_not_end_is_refused_and_left_alone() -> None:
    go, ended = threading.Event(), threading.Event()

    def find(keeping: Collection[Numbered], alone: bool) -> Discovery:
        assert go.wait(10)
        ended.set()
        return Discovery()

    with pytest.raises(
        PluginRefused, match=r"importing no_such_package took longer than 0.01 s \(import_timeout"
    ) as got:
        await InlineHost(PLUGIN, find, 0.01).start()
    assert got.value.code == "IMPORT_TIMEOUT"
    go.set()
    assert await asyncio.to_thread(ended.wait, 10)


@dataclass(frozen=True)
class Unkeyable:
    """Settings that cannot enter a key."""

    what: Any = field(default_factory=object)


async def test_settings_that_cannot_enter_the_key_are_a_refusal() -> None:
    with pytest.raises(PluginRefused, match="mercato-made: setting 'what' holds object") as caught:
        await InlineHost(PLUGIN, lambda *_: Discovery([offered(settings=Unkeyable())])).start()
    assert caught.value.code == "SETTINGS_INVALID"


class Hung:
    """A model whose `load` hangs until told to go on."""

    def __init__(self) -> None:
        self.started, self.go = threading.Event(), threading.Event()
        outer = self

        class Hanging(Model):
            def load(self, ctx: Any) -> None:
                outer.started.set()
                assert outer.go.wait(10)

        self.model = Hanging

    async def end(self) -> None:
        self.go.set()
        for thread in threading.enumerate():
            if thread.name == NAME:
                await asyncio.to_thread(thread.join, 10)


async def test_a_load_that_hangs_fails_and_leaves_its_thread_behind(tmp_path: Path) -> None:
    hung = Hung()
    lane = InlineLane(worker(tmp_path, hung.model), "shop.double", load_timeout=0.01)
    with pytest.raises(LoadFailed, match=r"loading shop.double took longer than 0.01 s \(load_timeout\)"):
        await lane.load()
    async with asyncio.timeout(5):
        await lane.close()
    await hung.end()
    assert threads() == []


async def test_another_model_loads_unmeasured_beside_one_whose_load_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mercato_server.runtime.memory.TURN_SECONDS", 0.01)
    hung = Hung()
    for name in ("hung", "other"):
        (tmp_path / name).mkdir()
    first = InlineLane(worker(tmp_path / "hung", hung.model), "shop.double")
    loading = asyncio.ensure_future(first.load())
    await asyncio.to_thread(hung.started.wait, 10)
    other = InlineLane(worker(tmp_path / "other", examples=[{"x": [[1, 2]]}]), "shop.other")
    async with asyncio.timeout(10):
        await other.load()
        assert (await other.warm()).nbytes == 0
        await other.close()
    hung.go.set()
    await loading
    await first.close()


async def test_closing_twice_at_once_closes_once_and_both_wait(tmp_path: Path) -> None:
    lane, running, go, _ = await held(tmp_path)
    closing = [asyncio.ensure_future(lane.close()) for _ in range(2)]
    await asyncio.sleep(0)
    go.set()
    async with asyncio.timeout(10):
        await asyncio.gather(running, *closing)
    assert threads() == []


async def test_a_host_that_is_closed_ends_the_threads_that_are_idle_and_leaves_the_others(tmp_path: Path) -> None:
    hung = Hung()
    host = InlineHost(PLUGIN, lambda *_: Discovery([offered(hung.model)]))
    await host.start()
    made = artifact(tmp_path, DOUBLE, {"model": double()}, [{"x": [[1, 2]]}])
    lane = host.lane("shop.double", Placement(made, "cpu", 1))
    loading = asyncio.ensure_future(lane.load())
    await asyncio.to_thread(hung.started.wait, 10)
    async with asyncio.timeout(5):
        await host.close()
    assert threads() == [NAME]
    await hung.end()
    await loading
    assert threads() == []
