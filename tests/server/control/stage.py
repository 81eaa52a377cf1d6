"""Hosts that move only when told, a clock that a test turns, and a control room over a real store and catalog."""

import asyncio
import hashlib
import itertools
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from tests.server.runtime.made import X, double
from tests.server.serving.puppet import ample

from mercato_plugin import ModelSpec
from mercato_plugin.frozen import canonical, freeze
from mercato_server.contract.administration import LoadStep
from mercato_server.contract.batch import BatchResult, JoinedBatch
from mercato_server.contract.certificate import Certificate
from mercato_server.contract.host import Loaded, Placement
from mercato_server.contract.plugin import Numbered, Offer, Offers, PluginInfo, Refusal, Untrained
from mercato_server.contract.state import State
from mercato_server.control.administration import Operator
from mercato_server.control.crashes import Clock, CrashLimits
from mercato_server.control.lifecycle import Lifecycle
from mercato_server.control.loading import Loader
from mercato_server.control.memory import MemoryBudget
from mercato_server.control.posts import HostOf, Roster
from mercato_server.control.resources import Resources
from mercato_server.errors import LoadFailed, WorkerCrashed
from mercato_server.runtime.providers import Provider
from mercato_server.serving.catalog import Catalog, Version
from mercato_server.serving.request import Answer, Request
from mercato_server.store import Store

PATIENCE = 20.0
KILLED = "was ended by signal SIGKILL"
NBYTES = 4096


class HandClock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.time = 0.0
        self.slept: list[float] = []
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._asleep = asyncio.Event()

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.time, self._sleep)

    async def asleep(self, times: int = 1) -> float:
        """Wait until there have been so many sleeps; gives how long the last one is."""
        async with asyncio.timeout(PATIENCE):
            while len(self.slept) < times:
                self._asleep.clear()
                await self._asleep.wait()
        return self.slept[-1]

    def advance(self, seconds: float) -> None:
        self.time += seconds
        due = [sleeper for sleeper in self._sleepers if sleeper[0] <= self.time + 1e-9]
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper not in due]
        for _, future in due:
            if not future.done():
                future.set_result(None)

    async def _sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.time + seconds, future))
        self.slept.append(seconds)
        self._asleep.set()
        await future


class Gate:
    """Where a host stops until it is told to go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def here(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.reached.wait()


class PuppetHost:
    """A process that is none. It answers with what the stage says, and ends when a test says so."""

    def __init__(self, plugin: PluginInfo, stage: "Stage") -> None:
        self.plugin = plugin
        self.pid = next(stage.pids)
        self.lanes: list[PuppetLane] = []
        self.is_closed = self.ended_at_once = False
        self.kept: set[Numbered] = set()
        self.is_alone = False
        self._stage = stage
        self._is_alive = False
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def start(self, keeping: Collection[Numbered] = (), *, alone: bool = False) -> Offers:
        await self._stage.passed(self.plugin.distribution, "start")
        answer = self._stage.answers[self.plugin.distribution]
        if isinstance(answer, Exception):
            raise answer
        self._is_alive = True
        self.kept, self.is_alone = set(keeping), alone
        offers = [replace(offer, plugin=self.plugin) for offer in answer]
        # Where no test says what its source is, the key stands for it.
        return Offers(
            offers, *self._stage.told.get(self.plugin.distribution, ((), ())), offers[0].key if offers else ""
        )

    def lane(self, model: str, placement: Placement) -> "PuppetLane":
        self.lanes.append(PuppetLane(self, model, placement, self._stage))
        return self.lanes[-1]

    async def ended(self) -> str:
        return await asyncio.shield(self._ended)

    def memory(self) -> int:
        return NBYTES if self._is_alive else 0

    async def close(self, *, at_once: bool = False) -> None:
        self.is_closed, self._is_alive = True, False
        self.ended_at_once |= at_once
        if not at_once:
            await self._stage.passed(self.plugin.distribution, "close")

    def crash(self, why: str = KILLED) -> None:
        """End as if by a fault: lanes hear of it first, as from the kernel."""
        self._is_alive = False
        for lane in self.lanes:
            lane.lost(why)
        self._ended.set_result(why)


class PuppetLane:
    """Answers at once with twice its input, unless the stage holds it or the host has ended."""

    def __init__(self, host: PuppetHost, model: str, placement: Placement, stage: "Stage") -> None:
        self.model = model
        self.placement = placement
        self.is_closed = False
        self._host = host
        self._stage = stage
        self._waiting: list[asyncio.Future[None]] = []

    async def load(self) -> None:
        await self._step("load")

    async def warm(self) -> Loaded:
        await self._step("warm")
        return Loaded((self.placement.provider,), self._stage.nbytes)

    async def run(self, batch: JoinedBatch) -> BatchResult:
        if not self._host.memory():
            raise WorkerCrashed(f"the worker {KILLED}", model=self.model)
        await self._held("run", WorkerCrashed(f"the worker {KILLED}", model=self.model))
        return BatchResult({"y": batch.inputs["x"] * 2})

    def recall(self, batch: JoinedBatch) -> None:
        raise AssertionError("no second batch is prepared here")

    async def close(self) -> None:
        await self._stage.passed(self.model, "close")
        self.is_closed = True

    def lost(self, why: str) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def _step(self, step: str) -> None:
        ended = LoadFailed(f"the worker {KILLED} while {self.model} was loaded")
        if not self._host.memory():
            raise ended
        await self._held(step, ended)
        if (error := self._stage.failing.get((self.model, step))) is not None:
            raise error

    async def _held(self, step: str, ended: Exception) -> None:
        gate = self._stage.gates.get((self.model, step))
        if gate is None:
            return
        gate.reached.set()
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(lost)
        await asyncio.wait([gate.go, lost], return_when=asyncio.FIRST_COMPLETED)
        if lost.done():
            raise ended


class Stage:
    """A control room. Artifacts are published before it starts.

    `answers` says what each distribution's host offers, and `told` what it refuses and what needs training.
    """

    def __init__(self, folder: Path, host_of: HostOf | None = None, *, isolation: str = "process") -> None:
        self.pids = itertools.count(1000)
        self.answers: dict[str, Sequence[Offer] | Exception] = {}
        self.told: dict[str, tuple[Sequence[Refusal], Sequence[Untrained]]] = {}
        self.gates: dict[tuple[str, str], Gate] = {}
        self.failing: dict[tuple[str, str], Exception] = {}
        self.kept_out: list[Refusal] = []
        self.renamed: dict[str, PluginInfo] = {}
        self.hosts: list[PuppetHost] = []
        self.nbytes = NBYTES
        self.clock = HandClock()
        self.store = Store(folder)
        self.catalog = Catalog()
        self.moves: list[tuple[str, State]] = []
        self.catalog.listeners.append(self._heard)
        self._moved = asyncio.Event()
        self.settled = 0
        self.stops = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.resources = Resources(Provider("cpu", "auto fell back"), 1, 10, 10_000)
        self._host_of = host_of or self._puppet
        self.build(isolation)

    def build(self, isolation: str = "process", limit: int | None = None) -> None:
        """The control room itself, anew; `limit` is that of memory."""
        limits = CrashLimits(3, 60.0)
        self.memory = MemoryBudget(limit)
        self.loader = Loader(self.store, lambda model: self.resources, self.memory, ample())
        self.roster = Roster(self._host_of, isolation, limits, self.clock.clock)
        self.control = Lifecycle(self.catalog, self.roster, self.loader, lambda name, progress: None)
        self.operator = Operator(
            self.catalog, self.control, self._installed, settle=self._settle, stop=self._stop, drain_seconds=10.0
        )

    def offer(self, name: str, version: int = 1, key: str = "a", graph: bytes | None = None) -> Offer:
        """What a plugin `mercato-<second word>` offers, its artifact in the store."""
        spec = ModelSpec(name=name, version=version, inputs={"x": X}, outputs={"y": X})
        made = hashlib.sha256(f"{name} {version} {key}".encode()).hexdigest()
        offer = Offer(plugin(f"mercato-{name.partition('.')[2]}"), spec, made)
        publish(self.store, spec, offer.key, offer.plugin.distribution, graph)
        return offer

    def install(self, *offers: Offer, distribution: str = "") -> PluginInfo:
        """Have a distribution's host answer with these offers from now on."""
        name = distribution or offers[0].plugin.distribution
        self.answers[name] = offers
        return plugin(name)

    async def up(self, *offers: Offer) -> None:
        """Bring up one distribution per offer."""
        await self.control.bring_up([self.install(offer) for offer in offers])

    def hold(self, who: str, step: str) -> Gate:
        """Stop a distribution's `start`, or a model's `load`, `warm` or `run`, from now on."""
        self.gates[who, step] = Gate()
        return self.gates[who, step]

    def let_go(self, who: str, step: str) -> None:
        self.gates.pop((who, step)).go.set_result(None)

    def host(self, name: str) -> PuppetHost:
        """The latest host of a distribution."""
        return [host for host in self.hosts if host.plugin.distribution == name][-1]

    def version(self, name: str, number: int = 1) -> Version:
        return self.catalog.models[name][number]

    def states(self, name: str) -> list[State]:
        return [state for moved, state in self.moves if moved == name]

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for a move of the catalog after which this holds."""
        async with asyncio.timeout(PATIENCE):
            while not is_so():
                self._moved.clear()
                await self._moved.wait()

    async def until_state(self, name: str, state: State) -> Version:
        await self.until(lambda: name in self.catalog.models and self.version(name).status.state is state)
        return self.version(name)

    async def load(self, model: str = "", plugin: str = "", version: int | None = None) -> list[LoadStep]:
        async with asyncio.timeout(PATIENCE):
            return [step async for step in self.operator.load(model=model, version=version, plugin=plugin)]

    async def ask(self, name: str, value: float = 1.0) -> list[list[float]]:
        """The answer of whatever version the name means now."""
        answer = await self.submit(name, value)
        found: list[list[float]] = answer.outputs["y"].tolist()
        return found

    def submit(self, name: str, value: float = 1.0) -> "asyncio.Future[Answer]":
        version = self.catalog.resolve(name)
        assert version.engine is not None
        return version.engine.submit(ask(value))

    async def passed(self, who: str, step: str) -> None:
        gate = self.gates.get((who, step))
        if gate is not None:
            gate.reached.set()
            await asyncio.shield(gate.go)

    def _puppet(self, plugin: PluginInfo) -> PuppetHost:
        self.hosts.append(PuppetHost(plugin, self))
        return self.hosts[-1]

    def _heard(self, version: Version) -> None:
        self.moves.append((version.name, version.status.state))
        self._moved.set()

    def _installed(self, distribution: str) -> tuple[list[PluginInfo], list[Refusal]]:
        kept_out = [refusal for refusal in self.kept_out if refusal.plugin.distribution == distribution]
        found = self.renamed.get(distribution, plugin(distribution))
        return [found] if distribution in self.answers else [], kept_out

    async def _settle(self) -> None:
        self.settled += 1

    def _stop(self) -> None:
        self.stops += 1


def plugin(distribution: str) -> PluginInfo:
    return PluginInfo(distribution, "1.0", "made", "no_such_package")


def publish(store: Store, spec: ModelSpec, key: str, distribution: str, graph: bytes | None = None) -> None:
    """Put a model that doubles its input into the store."""
    with store.staging() as staged:
        (staged / "graphs").mkdir()
        (staged / "files").mkdir()
        (staged / "graphs" / "model.onnx").write_bytes(graph or double().SerializeToString())
        (staged / "spec.json").write_bytes(canonical(freeze(spec)))
        certificate = Certificate("self", True, (), (), (), 17, "cpu")
        (staged / "certificate.json").write_text(json.dumps(certificate.to_json()))
        (staged / "examples.json").write_text('[{"inputs": {"x": [[1, 2]]}, "parameters": {}}]')
        tools = {"onnx": onnx.__version__}
        store.publish(staged, key, model=spec.name, plugin=distribution, plugin_version="1.0", tools=tools)


def ask(value: float) -> Request:
    return Request({"x": np.full((1, 2), value, np.float32)}, 1, 1e9)
