"""The composition root: builds the chain, and says in which order it starts and stops."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from mercato_server.app import building
from mercato_server.app.faults import failures, strays
from mercato_server.config import OFF, Settings, admin_address
from mercato_server.contract.plugin import PluginInfo, Refusal
from mercato_server.contract.state import State
from mercato_server.control.administration import Operator
from mercato_server.control.gauges import facts
from mercato_server.control.lifecycle import Lifecycle
from mercato_server.control.loading import OnProgress
from mercato_server.control.resources import Resources
from mercato_server.errors import StartupError
from mercato_server.plugins.daemon import in_daemon_thread
from mercato_server.plugins.host import Policy, installed
from mercato_server.rpc.admin_listener import AdminServer
from mercato_server.rpc.observation import Observation
from mercato_server.rpc.server import DataServer
from mercato_server.runtime.providers import Provider, ProviderChoice, choose
from mercato_server.runtime.threads import cpu_limit
from mercato_server.serving.catalog import Version
from mercato_server.telemetry.facts import Facts

if TYPE_CHECKING:
    from mercato_server.rpc.probe import ProbeServer
    from mercato_server.telemetry.exposition import MetricsPort

log = logging.getLogger("mercato.app")


class App:
    """One server. `start` returns when every model has been AVAILABLE or FAILED; `stop` drains.

    `stopping` is set once it is to end.
    """

    def __init__(self, settings: Settings, on_progress: OnProgress) -> None:
        self._settings = settings
        self.stopping = asyncio.Event()
        self._is_told = False
        self.catalog = building.catalog(settings)
        self._threads = settings.threads or cpu_limit()
        self._loader = building.loader(settings, self._resources_of)
        self._lifecycle = Lifecycle(self.catalog, building.roster(settings, self._threads), self._loader, on_progress)
        self._tracing = building.tracing(settings.tracing)
        self._observation = Observation(self._tracing)
        self._certificates = building.certificates(settings)
        limits = building.limits(settings)
        access = building.access(settings)
        self._server = DataServer(self.catalog, limits, access, self._observation, self._certificates)
        self._operator = self._made_operator()
        self._admin = AdminServer(self.catalog, self._operator, limits, self._observation, self._server.health)
        self._provider: Provider | None = None
        self._probe: ProbeServer | None = None
        self._metrics: MetricsPort | None = None
        self._has_started = False
        self.catalog.listeners.append(self._announce)
        self.catalog.refusal_listeners.append(self._announce_refused)
        self.port = self.metrics_port = self.probe_port = 0
        self.admin_address = ""

    def _made_operator(self) -> Operator:
        return Operator(
            self.catalog,
            self._lifecycle,
            self._installed,
            settle=self._server.settle_arrivals,
            stop=self.stopping.set,
            drain_seconds=self._settings.drain_seconds,
        )

    @property
    def tls(self) -> str:
        """How the data port speaks: `off`, `tls`, or `mtls` where callers show certificates."""
        if self._settings.tls_client_ca is not None:
            return "mtls"
        return "tls" if self._settings.is_secured else "off"

    async def start(self, on_listening: Callable[[int], None]) -> None:
        """Listen once the provider is settled, so that probes get an answer, then bring the models up.

        Raises StartupError when the provider does not come up, when a port is taken, or with `strict` when anything
        failed.
        """
        self._provider = await in_daemon_thread(self._choose, self._settings.provider)
        await self._listen()
        on_listening(self.port)
        await self._lifecycle.bring_up(*await in_daemon_thread(self._installed))
        for fault in strays(self._settings, self.catalog):
            log.warning("%s", fault)
        if self._settings.strict and (found := failures(self._settings, self.catalog)):
            raise StartupError("refusing to serve (strict): " + "; ".join(found))
        self._has_started = True
        _calm_collector()
        self._announce_server()

    async def _listen(self) -> None:
        if self._settings.metrics_listen != OFF:
            self._open_metrics(self._settings.metrics_listen)
        self.port = await self._server.start(self._settings.listen)
        if self._settings.is_secured and self._settings.probe_listen != OFF:
            self._probe = self._server.probe()
            self.probe_port = await self._probe.start(self._settings.probe_listen)
        if self._settings.admin_listen != OFF:
            self.admin_address = await self._admin.start(admin_address(self._settings.admin_listen, self.port))

    def end(self) -> None:
        """A signal to stop; a second one gives up what is in flight. An operator's drain is none."""
        if self._is_told:
            self._lifecycle.retirement.hurry.set()
        self._is_told = True
        self.stopping.set()

    async def stop(self) -> None:
        """Announce NOT_SERVING, finish what was accepted, end the workers, then the ports."""
        self._server.health.shut()
        await self._server.settle_arrivals()
        await self._operator.close()
        await self._lifecycle.drain(self._settings.drain_seconds)
        await self._server.stop(grace=1.0)
        await self._admin.stop(grace=1.0)
        if self._probe is not None:
            await self._probe.stop()
        if self._metrics is not None:
            await asyncio.to_thread(self._metrics.close)
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)

    def _open_metrics(self, listen: str) -> None:
        # Takes tens of milliseconds to import, which a server without it does not pay for.
        from mercato_server.telemetry.exposition import MetricsPort

        self._metrics = MetricsPort(listen, self._observation.requests, self._facts)
        self.metrics_port = self._metrics.port

    def _facts(self) -> Facts:
        return facts(
            self.catalog,
            exports_failed=self._loader.exports_failed,
            streams=self._server.open_streams(),
            expiry=self._certificates.expiry if self._certificates else None,
            workers=self._operator.workers(),
            memory_limit=self._settings.memory_limit,
        )

    def _installed(self, distribution: str | None = None) -> tuple[list[PluginInfo], list[Refusal]]:
        """The plugins that are installed now, or those of one distribution, and what the operator's lists keep out."""
        return installed(Policy(self._settings.plugins_allow, self._settings.plugins_deny), distribution)

    def _choose(self, provider: ProviderChoice) -> Provider:
        """The provider, proven in a process of its own where models run in theirs."""
        return choose(provider, apart=self._settings.isolation == "process")

    def _resources_of(self, model: str) -> Resources:
        """What one model is given: what all get, but for its overrides."""
        assert self._provider is not None, "models are brought up once it is settled"
        settings, given = self._settings, self._settings.resources(model)
        common = Resources(self._provider, self._threads, settings.max_requests, settings.max_request_bytes)
        if "provider" in given:
            given["provider"] = self._choose(given["provider"])
        if "threads" in given:
            given["threads"] = given["threads"] or cpu_limit()
        return replace(common, **given)

    def _announce(self, version: Version) -> None:
        """Keep health in step: a model serves while one of its versions does."""
        if versions := self.catalog.models.get(version.name):
            self._server.health.set(version.name, any(v.status.state is State.AVAILABLE for v in versions.values()))
        self._announce_server()

    def _announce_refused(self, model: str) -> None:
        """A model that is known by its refusals alone does not serve; the versions of another say what it does."""
        if not self.catalog.models.get(model):
            self._server.health.set(model, serving=False)

    def _announce_server(self) -> None:
        """The server serves while one model does, once all have been brought up."""
        is_available = any(v.status.state is State.AVAILABLE for v in self.catalog.versions())
        self._server.health.set("", self._has_started and is_available)


def _calm_collector() -> None:
    """Look for garbage among what is new, and among all that waits only rarely.

    What has been loaded lives as long as the server. With a thousand requests waiting a full collection holds the loop
    for about 100 ms, one of the young for about 2 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(1_000, 20, 1_000)


async def serve(app: App, on_listening: Callable[[int], None], on_ready: Callable[[], None]) -> None:
    """Run until SIGTERM or SIGINT, then drain; a second one ends the draining. Raises what `App.start` raises."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, app.end)
    starting = asyncio.create_task(_start(app, on_listening, on_ready))
    stopping = asyncio.create_task(app.stopping.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
        await stopping
    finally:
        stopping.cancel()
        await _cancelled(starting)
        await app.stop()


async def _start(app: App, on_listening: Callable[[int], None], on_ready: Callable[[], None]) -> None:
    await app.start(on_listening)
    on_ready()


async def _cancelled(task: asyncio.Task[None]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
