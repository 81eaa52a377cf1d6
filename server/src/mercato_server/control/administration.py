"""What an operator asks of a running server: load and reload, unload, labels, drain, workers."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from packaging.utils import canonicalize_name

from mercato_server.contract.administration import LoadStep, Unloaded, WorkerFacts
from mercato_server.contract.plugin import PluginInfo, Refusal
from mercato_server.contract.state import State
from mercato_server.control.lifecycle import Lifecycle
from mercato_server.control.reload import Reload, Target, Tell
from mercato_server.errors import Draining, LabelHolds, LoadFailed, LoadRefused, NotFound
from mercato_server.plugins.daemon import in_daemon_thread
from mercato_server.serving.catalog import Catalog, Version, shown

log = logging.getLogger("mercato.control")


class Operator:
    """Does what an operator asks, one thing per distribution at a time.

    `installed` tells which plugins of a distribution are installed and admitted at that moment, and which are refused.
    `settle` returns when every call that has arrived was admitted or refused. `stop` begins the end of the server, and
    `drain_seconds` is the longest wait for the requests of a version that is unloaded.
    """

    def __init__(
        self,
        catalog: Catalog,
        lifecycle: Lifecycle,
        installed: Callable[[str], tuple[list[PluginInfo], list[Refusal]]],
        *,
        settle: Callable[[], Awaitable[None]],
        stop: Callable[[], None],
        drain_seconds: float,
    ) -> None:
        self._catalog = catalog
        self._lifecycle = lifecycle
        self._find_installed = installed
        self._settle = settle
        self._stop = stop
        self._drain_seconds = drain_seconds
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def load(self, *, model: str = "", version: int | None = None, plugin: str = "") -> AsyncIterator[LoadStep]:
        """Load a known model, one version of it, or all models of an installed distribution, beside what serves.

        It ends when they serve or have failed alone; what they replace is drained afterwards. Closing the iterator
        earlier takes the load back. Raises NotFound; LoadRefused when nothing can be loaded, or what serves cannot be
        in its new form, after which what served before serves on.
        """
        steps: asyncio.Queue[LoadStep | None] = asyncio.Queue()
        loading = self._begun(self._load(Target(model, version), plugin, steps.put_nowait))
        loading.add_done_callback(lambda _: steps.put_nowait(None))
        try:
            while (step := await steps.get()) is not None:
                yield step
            await loading
        finally:
            await _cancelled(loading)

    async def unload(self, model: str, version: int | None) -> Unloaded:
        """Drain and unload one version, or all. Raises NotFound, or LabelHolds for one that a label means."""
        distribution = self._known(model, version)[0].plugin.distribution
        async with await self._turn(distribution):
            if version is not None:
                self._check_unlabelled(model, version)
            leaving = [v for v in self._known(model, version) if v.status.state is not State.UNLOADED]
            nbytes = sum(v.nbytes for v in leaving)
            for gone in leaving:
                self._lifecycle.retirement.begin(gone, "unloaded by an operator")
            await self._ended(leaving)
        return Unloaded([gone.number for gone in leaving], nbytes)

    def set_label(self, model: str, label: str, version: int | None) -> Mapping[str, int]:
        """Move a label to an AVAILABLE version, or take it away; gives all labels of the model.

        Raises NotFound, InvalidRequest for what is no label, LabelRefused for a version that is not AVAILABLE, or
        GateNotPassed for one whose metrics do not pass the gates.
        """
        return dict(self._catalog.set_label(model, label, version))

    def drain(self) -> int:
        """Begin to end the server as SIGTERM does; gives the number of requests that are still to be answered."""
        self._stop()
        return sum(version.engine.pool.requests for version in self._catalog.versions() if version.engine is not None)

    def workers(self) -> Sequence[WorkerFacts]:
        """Every worker, ordered by plugin. Any thread may ask."""
        return self._lifecycle.roster.facts()

    async def close(self) -> None:
        """Take back the loads under way, refuse others; what is being unloaded is left to the end of the server."""
        self._is_closed = True
        await asyncio.gather(*map(_cancelled, self._tasks.copy()))

    async def _load(self, target: Target, plugin: str, tell: Tell) -> None:
        wanted = self._known(target.model, None)[0].plugin if target.model else None
        distribution = wanted.distribution if wanted is not None else str(canonicalize_name(plugin))
        async with await self._turn(distribution):
            installed = await self._installed(distribution)
            plugins = [found for found in installed if wanted is None or found.entry_point == wanted.entry_point]
            if wanted is not None and not plugins:
                text = f"{distribution} has no entry point {wanted.entry_point!r} any more; load it with --plugin"
                raise LoadRefused(text, model=target.model, reason=LoadFailed.reason)
            reload = Reload(self._catalog, self._lifecycle, tell, installed, target)
            try:
                self._begun(self._ended(await reload.run(plugins)))
            finally:
                await reload.close()

    def _check_unlabelled(self, model: str, version: int) -> None:
        for label, number in self._catalog.labels.get(model, {}).items():
            if number == version:
                text = f"label {label!r} of model {model!r} means version {version}; move or remove the label first"
                raise LabelHolds(text, model=model)

    async def _installed(self, distribution: str) -> list[PluginInfo]:
        """The entry points of a distribution. Raises NotFound, or LoadRefused for one that the lists keep out."""
        admitted, refused = await in_daemon_thread(self._find_installed, distribution)
        for refusal in refused:
            raise LoadRefused(refusal.reason, reason=refusal.code)
        if admitted:
            return admitted
        raise NotFound(f"no distribution {shown(distribution)} with a plugin is installed")

    async def _turn(self, distribution: str) -> asyncio.Lock:
        """The lock of a distribution whose plugins have been brought up."""
        await self._lifecycle.brought_up(distribution)
        if self._is_closed:
            raise Draining("the server is stopping")
        return self._locks[distribution]

    def _known(self, model: str, version: int | None) -> list[Version]:
        """The versions that are meant, newest first. Raises NotFound."""
        versions = self._catalog.model(model)
        if version is not None:
            return [self._catalog.find(model, version)]
        return sorted(versions.values(), key=lambda known: -known.number)

    async def _ended(self, versions: Sequence[Version]) -> None:
        """Unload versions for which it has begun, once all calls that may have found them have been admitted."""
        await self._settle()
        end = self._lifecycle.retirement.end
        await asyncio.gather(*(end(version, self._drain_seconds) for version in versions))

    def _begun(self, work: "Awaitable[None]") -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _cancelled(task: asyncio.Task[None]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
