"""A model's life with real artifacts, sessions and threads, from a filled store to unloaded."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.control.stage import ask, publish
from tests.server.runtime.made import X
from tests.server.serving.puppet import ample

from mercato_plugin import Batch, BatchPolicy, Model, ModelSpec
from mercato_server.contract.plugin import Discovery, OfferedModel, PluginInfo, Refusal
from mercato_server.contract.state import State
from mercato_server.control.administration import Operator
from mercato_server.control.lifecycle import Lifecycle
from mercato_server.control.loading import Loader
from mercato_server.control.memory import MemoryBudget
from mercato_server.control.posts import Roster
from mercato_server.control.resources import Resources
from mercato_server.errors import Draining
from mercato_server.runtime.inline import InlineHost, InlineLane
from mercato_server.runtime.providers import Provider
from mercato_server.serving.catalog import Catalog
from mercato_server.serving.request import Request
from mercato_server.store import Store
from mercato_server.store.offered import key_of


class Life:
    """A control room of real hosts, threads of this process; artifacts are published before it starts."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self.catalog = Catalog()
        self.moves: list[tuple[str, State]] = []
        self.catalog.listeners.append(lambda version: self.moves.append((version.name, version.status.state)))
        self._offered: dict[PluginInfo, list[OfferedModel]] = {}
        self.use(Provider("cpu", "auto fell back"))

    def use(self, provider: Provider) -> None:
        self.resources = Resources(provider, 1, 10, 10_000)
        loader = Loader(self.store, lambda model: self.resources, MemoryBudget(None), ample())
        self.roster = Roster(lambda plugin: InlineHost(plugin, lambda *_: Discovery(self._offered[plugin])), "inline")
        self.control = Lifecycle(self.catalog, self.roster, loader, lambda name, progress: None)

    def offer(self, name: str, model: type[Model] = Model, graph: bytes | None = None) -> OfferedModel:
        """A model whose artifact is in the store already."""
        made = model()
        made.spec = ModelSpec(name=name, inputs={"x": X}, outputs={"y": X})
        info = PluginInfo(f"mercato-{name.partition('.')[2]}", "1.0", "made", "no_such_package")
        offered = OfferedModel(info, made, made.spec)
        publish(self.store, made.spec, key_of(offered), info.distribution, graph)
        return offered

    async def up(self, *offered: OfferedModel) -> None:
        """Bring each up as the only model of its plugin."""
        self._offered |= {model.plugin: [model] for model in offered}
        await self.control.bring_up([model.plugin for model in offered])

    def states(self, name: str) -> list[State]:
        return [state for moved, state in self.moves if moved == name]


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path / "store")


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("worker ")]


async def test_from_the_store_to_available_to_unloaded(life: Life) -> None:
    await life.up(life.offer("shop.tiny"))
    version = life.catalog.resolve("shop.tiny")
    assert version.engine is not None
    answer = await version.engine.submit(ask(2))

    assert answer.outputs["y"].tolist() == [[4, 4]]
    assert version.status.reason == "auto fell back"
    assert len(version.digest) == 64 and version.providers == ("cpu",)
    await life.control.drain(10)
    assert life.states("shop.tiny") == [
        State.DISCOVERED, State.LOADING, State.WARMING, State.AVAILABLE, State.DRAINING, State.UNLOADED,
    ]  # fmt: skip
    with pytest.raises(Draining):
        life.catalog.resolve("shop.tiny")
    assert workers() == []


async def test_overrides_bound_what_is_joined_and_not_what_callers_may_send(life: Life) -> None:
    life.resources = replace(life.resources, batch_rows=3, batch_cost=7, default_deadline=0.5)
    await life.up(life.offer("shop.tiny"))
    version = life.catalog.resolve("shop.tiny")
    assert version.engine is not None
    asked = [version.engine.submit(replace(ask(row), cost=2)) for row in range(5)]
    large = version.engine.submit(Request({"x": np.zeros((64, 2), np.float32)}, 64, 1e9))

    assert [(await future).receipt.batch_rows for future in asked] == [3, 3, 3, 2, 2]
    whole = await large
    assert (len(whole.outputs["y"]), whole.receipt.batch_rows, whole.receipt.batches) == (64, 3, 22)
    assert (version.spec.batch.max_rows, version.spec.batch.max_cost, version.default_deadline) == (3, 7, 0.5)
    await life.control.drain(10)


@pytest.mark.parametrize("name", ["batch_rows", "batch_cost"])
async def test_an_override_above_what_the_plugin_declares_fails_the_model_with_both_numbers(
    life: Life, name: str
) -> None:
    too_many: dict[str, Any] = {name: 21}
    life.resources = replace(life.resources, **too_many)
    offered = life.offer("shop.tiny")
    spec = replace(offered.spec, batch=BatchPolicy(max_rows=20, max_cost=20))
    await life.up(replace(offered, spec=spec))

    assert life.states("shop.tiny") == [State.DISCOVERED, State.FAILED]
    assert life.catalog.models["shop.tiny"][1].status.reason == (
        f"CONFIG_INVALID: [models.'shop.tiny'] {name} is 21, but the plugin declares 20; expected at most that"
    )


def raising(method: str, error: BaseException) -> type[Model]:
    def fail(*args: Any) -> None:
        raise error

    return type("Failing", (Model,), {method: fail})


BAD: dict[str, tuple[Callable[[Life], OfferedModel], State, str]] = {
    "load exits": (
        lambda life: life.offer("shop.bad", raising("load", SystemExit(1))),
        State.LOADING,
        "LOAD_FAILED: load of shop.bad raised SystemExit",
    ),
    "the graph is none": (
        lambda life: life.offer("shop.bad", graph=b"\0\1\2"),
        State.LOADING,
        "LOAD_FAILED: graph 'model' cannot be loaded on cpu",
    ),
    "warm-up fails": (
        lambda life: life.offer("shop.bad", raising("preprocess", ValueError("13 is unlucky"))),
        State.WARMING,
        "LOAD_FAILED: warm-up of shop.bad: model 'shop.bad' failed (id ",
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_model_that_fails_tells_why_and_leaves_no_thread_while_the_other_serves(life: Life, case: str) -> None:
    make, last, reason = BAD[case]
    await life.up(make(life), life.offer("shop.good"))

    bad, good = life.catalog.models["shop.bad"][1], life.catalog.resolve("shop.good")
    assert life.states("shop.bad")[-2:] == [last, State.FAILED]
    assert bad.status.reason.startswith(reason)
    assert "13 is unlucky" not in bad.status.reason
    assert good.status.state is State.AVAILABLE
    assert workers() == ["worker shop.good"]
    await life.control.drain(10)
    assert bad.status.state is State.FAILED


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="needs a machine on which CUDA does not come up")
@pytest.mark.parametrize(("falls_back", "state"), [(True, State.AVAILABLE), (False, State.FAILED)])
async def test_auto_falls_back_for_a_model_that_does_not_load_on_the_gpu(
    life: Life, falls_back: bool, state: State
) -> None:
    life.use(Provider("cuda", falls_back=falls_back))

    await life.up(life.offer("shop.one"))

    (version,) = life.catalog.versions()
    assert version.status.state is state
    assert "was to run on cuda but came up on" in version.status.reason
    assert version.providers == (("cpu",) if falls_back else ())
    await life.control.drain(1.0)


async def test_refused_plugins_are_listed(life: Life) -> None:
    refusal = Refusal(PluginInfo("mercato-bad", "1.0", "bad", "bad"), "IMPORT_FAILED", "because")
    await life.control.bring_up([], [refusal])

    assert life.catalog.refused == [refusal]


async def test_draining_finishes_what_was_accepted(life: Life) -> None:
    started, go = threading.Event(), threading.Event()

    class Slow(Model):
        def preprocess(self, batch: Batch) -> Any:
            if batch.inputs["x"][0, 0] == 5:
                started.set()
                assert go.wait(10)
            return batch.inputs

    await life.up(life.offer("shop.slow", Slow))
    engine = life.catalog.resolve("shop.slow").engine
    assert engine is not None
    running = engine.submit(ask(5))
    await asyncio.to_thread(started.wait, 10)
    queued = engine.submit(ask(6))
    draining = asyncio.ensure_future(life.control.drain(10))
    await asyncio.sleep(0)
    assert not draining.done() and life.states("shop.slow")[-1] is State.DRAINING
    go.set()
    await draining

    assert [(await future).outputs["y"].tolist() for future in (running, queued)] == [[[10, 10]], [[12, 12]]]
    assert life.states("shop.slow")[-1] is State.UNLOADED


async def test_a_batch_that_hangs_does_not_hold_the_drain(life: Life) -> None:
    started, go = threading.Event(), threading.Event()

    class Hanging(Model):
        def preprocess(self, batch: Batch) -> Any:
            if batch.inputs["x"][0, 0] == 5:
                started.set()
                go.wait(60)
            return batch.inputs

    await life.up(life.offer("shop.hanging", Hanging), life.offer("shop.good"))
    engine = life.catalog.resolve("shop.hanging").engine
    assert engine is not None
    future = engine.submit(ask(5))
    await asyncio.to_thread(started.wait, 10)
    await asyncio.wait_for(life.control.drain(0.05), 10)

    assert life.states("shop.hanging")[-1] is State.DRAINING
    assert life.states("shop.good")[-1] is State.UNLOADED
    with pytest.raises(Draining, match="did not wait for this request any longer"):
        await future
    go.set()
    [lane] = [seat.lane for _, seat in life.roster.seats() if seat.version.name == "shop.hanging"]
    assert isinstance(lane, InlineLane)
    await lane.leave()


async def test_loading_and_unloading_again_and_again_leaves_nothing_behind(life: Life) -> None:
    async def settle() -> None:
        await asyncio.sleep(0)

    offered = life.offer("shop.tiny")
    await life.up(offered)
    operator = Operator(
        life.catalog, life.control, lambda _: ([offered.plugin], []), settle=settle, stop=lambda: None, drain_seconds=10
    )
    for _ in range(20):
        unloaded = await operator.unload("shop.tiny", None)
        assert list(unloaded.versions) == [1] and workers() == [] and operator.workers() == []
        assert [step.state async for step in operator.load(model="shop.tiny")][-1] is State.AVAILABLE
        engine = life.catalog.resolve("shop.tiny").engine
        assert engine is not None
        assert (await engine.submit(ask(2))).outputs["y"].tolist() == [[4, 4]]
    assert workers() == ["worker shop.tiny"]
    await life.control.drain(10)
    assert workers() == []


async def test_hurrying_gives_up_what_is_in_flight(life: Life) -> None:
    started, go = threading.Event(), threading.Event()

    class Hanging(Model):
        def preprocess(self, batch: Batch) -> Any:
            if batch.inputs["x"][0, 0] == 5:
                started.set()
                go.wait(60)
            return batch.inputs

    await life.up(life.offer("shop.hanging", Hanging))
    engine = life.catalog.resolve("shop.hanging").engine
    assert engine is not None
    futures = [engine.submit(ask(5)), engine.submit(ask(6))]
    await asyncio.to_thread(started.wait, 10)
    draining = asyncio.ensure_future(life.control.drain(1000))
    await asyncio.sleep(0)
    assert not draining.done()
    life.control.retirement.hurry.set()
    await asyncio.wait_for(draining, 10)

    for future in futures:
        with pytest.raises(Draining):
            await future
    go.set()
    for _, seat in life.roster.seats():
        assert isinstance(seat.lane, InlineLane)
        await seat.lane.leave()
