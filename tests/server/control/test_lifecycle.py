"""A model's life with real artifacts, sessions and threads, from a filled store to unloaded."""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.server.runtime.made import X, double

from mercato_plugin import Batch, BatchPolicy, Model, ModelSpec
from mercato_plugin.frozen import canonical, freeze
from mercato_server.contract.certificate import Certificate
from mercato_server.contract.plugin import Discovery, OfferedModel, PluginInfo, Refusal
from mercato_server.contract.state import State
from mercato_server.control.lifecycle import Lifecycle, settled
from mercato_server.control.resources import Resources
from mercato_server.errors import Draining
from mercato_server.runtime.providers import Provider
from mercato_server.serving.catalog import Catalog
from mercato_server.serving.request import Request
from mercato_server.store import Store
from mercato_server.store.offered import key_of


class Life:
    """A catalog and the lifecycle that fills it; artifacts are published before it starts."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self.catalog = Catalog()
        self.moves: list[tuple[str, State]] = []
        self.catalog.listeners.append(lambda version: self.moves.append((version.name, version.status.state)))
        self.use(Provider("cpu", "auto fell back"))

    def use(self, provider: Provider) -> None:
        self.resources = Resources(provider, 1, 10, 10_000)
        self.control = Lifecycle(self.catalog, self.store, lambda model: self.resources, lambda name, progress: None)

    def offer(self, name: str, model: type[Model] = Model, graph: bytes | None = None) -> OfferedModel:
        """A model whose artifact is in the store already."""
        made = model()
        made.spec = ModelSpec(name=name, inputs={"x": X}, outputs={"y": X})
        info = PluginInfo(f"mercato-{name.partition('.')[2]}", "1.0", "made", "no_such_package")
        offered = OfferedModel(info, made, made.spec)
        with self.store.staging() as staged:
            (staged / "graphs").mkdir()
            (staged / "files").mkdir()
            (staged / "graphs" / "model.onnx").write_bytes(graph or double().SerializeToString())
            (staged / "spec.json").write_bytes(canonical(freeze(made.spec)))
            (staged / "certificate.json").write_text(
                json.dumps(Certificate("self", True, (), (), (), 17, "cpu").to_json())
            )
            (staged / "examples.json").write_text('[{"inputs": {"x": [[1, 2]]}, "parameters": {}}]')
            tools = {"onnx": onnx.__version__}
            self.store.publish(
                staged, key_of(offered), model=name, plugin=info.distribution, plugin_version="1.0", tools=tools
            )
        return offered

    def states(self, name: str) -> list[State]:
        return [state for moved, state in self.moves if moved == name]


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path / "store")


def ask(value: float) -> Request:
    return Request({"x": np.full((1, 2), value, np.float32)}, 1, 1e9)


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("worker ")]


async def test_from_the_store_to_available_to_unloaded(life: Life) -> None:
    await life.control.bring_up(Discovery([life.offer("shop.tiny")]))
    version = life.catalog.resolve("shop.tiny")
    assert version.batcher is not None and version.admission is not None
    answer = await version.batcher.submit(ask(2))

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
    await life.control.bring_up(Discovery([life.offer("shop.tiny")]))
    version = life.catalog.resolve("shop.tiny")
    assert version.batcher is not None
    asked = [version.batcher.submit(replace(ask(row), cost=2)) for row in range(5)]
    large = version.batcher.submit(Request({"x": np.zeros((64, 2), np.float32)}, 64, 1e9))

    assert [(await future).receipt.batch_rows for future in (*asked, large)] == [3, 3, 3, 2, 2, 64]
    assert (version.spec.batch.max_rows, version.spec.batch.max_cost, version.default_deadline) == (64, 7, 0.5)
    await life.control.drain(10)


@pytest.mark.parametrize("name", ["batch_rows", "batch_cost"])
async def test_an_override_above_what_the_plugin_declares_fails_the_model_with_both_numbers(
    life: Life, name: str
) -> None:
    too_many: dict[str, Any] = {name: 21}
    life.resources = replace(life.resources, **too_many)
    offered = life.offer("shop.tiny")
    spec = replace(offered.spec, batch=BatchPolicy(max_rows=20, max_cost=20))
    await life.control.bring_up(Discovery([replace(offered, spec=spec)]))

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
    await life.control.bring_up(Discovery([make(life), life.offer("shop.good")]))

    bad, good = life.catalog.models["shop.bad"][1], life.catalog.resolve("shop.good")
    assert life.states("shop.bad")[-2:] == [last, State.FAILED]
    assert bad.status.reason.startswith(reason)
    assert "13 is unlucky" not in bad.status.reason
    assert good.status.state is State.AVAILABLE and settled(life.catalog)
    assert workers() == ["worker shop.good"]
    await life.control.drain(10)
    assert bad.status.state is State.FAILED


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="needs a machine on which CUDA does not come up")
@pytest.mark.parametrize(("falls_back", "state"), [(True, State.AVAILABLE), (False, State.FAILED)])
async def test_auto_falls_back_for_a_model_that_does_not_load_on_the_gpu(
    life: Life, falls_back: bool, state: State
) -> None:
    life.use(Provider("cuda", falls_back=falls_back))

    await life.control.bring_up(Discovery(models=[life.offer("shop.one")]))

    (version,) = life.catalog.versions()
    assert version.status.state is state
    assert "was to run on cuda but came up on" in version.status.reason
    assert version.providers == (("cpu",) if falls_back else ())
    await life.control.drain(1.0)


async def test_refused_plugins_are_listed(life: Life) -> None:
    refusal = Refusal(PluginInfo("mercato-bad", "1.0", "bad", "bad"), "IMPORT_FAILED", "because")
    await life.control.bring_up(Discovery([], [refusal]))

    assert life.catalog.refused == [refusal]


async def test_draining_finishes_what_was_accepted(life: Life) -> None:
    started, go = threading.Event(), threading.Event()

    class Slow(Model):
        def preprocess(self, batch: Batch) -> Any:
            if batch.inputs["x"][0, 0] == 5:
                started.set()
                assert go.wait(10)
            return batch.inputs

    await life.control.bring_up(Discovery([life.offer("shop.slow", Slow)]))
    batcher = life.catalog.resolve("shop.slow").batcher
    assert batcher is not None
    running = batcher.submit(ask(5))
    await asyncio.to_thread(started.wait, 10)
    queued = batcher.submit(ask(6))
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

    await life.control.bring_up(Discovery([life.offer("shop.hanging", Hanging), life.offer("shop.good")]))
    batcher = life.catalog.resolve("shop.hanging").batcher
    assert batcher is not None
    future = batcher.submit(ask(5))
    await asyncio.to_thread(started.wait, 10)
    await asyncio.wait_for(life.control.drain(0.05), 10)

    assert life.states("shop.hanging")[-1] is State.DRAINING
    assert life.states("shop.good")[-1] is State.UNLOADED
    with pytest.raises(Draining, match="did not wait for this request any longer"):
        await future
    go.set()
    await life.control._lanes[life.catalog.models["shop.hanging"][1]].close()
