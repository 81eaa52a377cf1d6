"""An Administration that remembers what it was asked, answers what a test says, and moves only when told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from mercato_server.contract.administration import LoadedModel, LoadStep, Unloaded, WorkerFacts
from mercato_server.contract.plugin import PluginInfo
from mercato_server.contract.state import State

WORKER = WorkerFacts(
    plugin=PluginInfo("mercato-pricing", "0.1.0", "pricing", "mercato_pricing"),
    isolation="process",
    pid=4711,
    started=1_790_000_000.25,
    restarts=2,
    last_crash="was ended by signal SIGKILL",
    nbytes=100 * 2**20,
    models=[LoadedModel("pricing.linear", 3, State.AVAILABLE, 5 * 2**20)],
)
STEPS = (
    LoadStep("pricing.linear", 2, State.EXPORTING, "certify", 1, 8),
    LoadStep("pricing.linear", 2, State.LOADING, digest="d1"),
    LoadStep("pricing.linear", 2, State.AVAILABLE, digest="d1", reason="unchanged"),
)


class Desk:
    """The double. `fault` is raised by whatever is asked; `gate`, when it is closed, holds loads and unloads."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.steps: Sequence[LoadStep] = STEPS
        self.unloaded: Unloaded | None = None
        self.fault: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.reached = asyncio.Event()
        self.finished = asyncio.Event()
        self.on_drain: Callable[[], None] = lambda: None

    async def load(self, *, model: str = "", version: int | None = None, plugin: str = "") -> AsyncIterator[LoadStep]:
        self.asked.append(("load", model, version, plugin))
        for step in self.steps[:-1]:
            yield step
        await self._pass()
        yield self.steps[-1]
        self.finished.set()

    async def unload(self, model: str, version: int | None) -> Unloaded:
        self.asked.append(("unload", model, version))
        await self._pass()
        self.finished.set()
        return self.unloaded or Unloaded((3, 2) if version is None else (version,), 5 * 2**20)

    def set_label(self, model: str, label: str, version: int | None) -> Mapping[str, int]:
        self.asked.append(("label", model, label, version))
        self._fail()
        return {"canary": 3} | ({label: version} if version else {})

    def drain(self) -> int:
        self.asked.append(("drain",))
        self._fail()
        self.on_drain()
        return 7

    def workers(self) -> Sequence[WorkerFacts]:
        self.asked.append(("workers",))
        self._fail()
        return [WORKER]

    async def _pass(self) -> None:
        self.reached.set()
        await self.gate.wait()
        self._fail()

    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault
