"""The composition root: builds the chain, and says in which order it starts and stops."""

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from mercato_server.config import ANY, OFF, Settings
from mercato_server.contract.state import State
from mercato_server.control.gauges import facts
from mercato_server.control.lifecycle import Lifecycle, OnProgress, settled
from mercato_server.control.resources import Resources
from mercato_server.errors import StartupError
from mercato_server.plugins.daemon import in_daemon_thread
from mercato_server.plugins.host import Policy, discover
from mercato_server.rpc.access import Access, Rule
from mercato_server.rpc.observation import Observation
from mercato_server.rpc.server import DataServer, Limits
from mercato_server.rpc.tls import Certificates, TlsFiles
from mercato_server.runtime.providers import choose
from mercato_server.runtime.threads import cpu_limit
from mercato_server.serving.catalog import Catalog, Version
from mercato_server.store import Store
from mercato_server.telemetry.facts import Facts

if TYPE_CHECKING:
    from mercato_server.rpc.probe import ProbeServer
    from mercato_server.telemetry.exposition import MetricsPort
    from mercato_server.telemetry.tracing import Tracing

log = logging.getLogger("mercato.app")

# Refusals that the operator's own lists ask for.
UNWANTED = ("DENIED", "NOT_ALLOWED")


class App:
    """One server. `start` returns when every model is AVAILABLE or FAILED; `stop` drains."""

    def __init__(self, settings: Settings, on_progress: OnProgress) -> None:
        self._settings = settings
        self.catalog = Catalog()
        for name, overrides in settings.models.items():
            self.catalog.labels[name] = dict(overrides.labels)
        self._resources = Resources(
            provider=choose(settings.provider),
            threads=settings.threads or cpu_limit(),
            max_requests=settings.max_requests,
            max_request_bytes=settings.max_request_bytes,
        )
        self._lifecycle = Lifecycle(self.catalog, Store(settings.store), self._resources_of, on_progress)
        limits = Limits(
            settings.max_message_bytes, settings.max_message_fields, settings.default_deadline, settings.connection_age
        )
        self._tracing = _tracing(settings.tracing)
        self._observation = Observation(self._tracing)
        self._certificates = _certificates(settings)
        self._server = DataServer(self.catalog, limits, _access(settings), self._observation, self._certificates)
        self._probe: ProbeServer | None = None
        self._metrics: MetricsPort | None = None
        self.catalog.listeners.append(self._announce)
        self.port = self.metrics_port = self.probe_port = 0

    @property
    def tls(self) -> str:
        """How the data port speaks: `off`, `tls`, or `mtls` where callers show certificates."""
        if self._settings.tls_client_ca is not None:
            return "mtls"
        return "tls" if self._settings.is_secured else "off"

    async def start(self, on_listening: Callable[[int], None]) -> None:
        """Listen at once, so that probes get an answer, then bring the models up.

        Raises StartupError when a port is taken, or with `strict` when anything failed.
        """
        if self._settings.metrics_listen != OFF:
            self._open_metrics(self._settings.metrics_listen)
        self.port = await self._server.start(self._settings.listen)
        if self._settings.is_secured and self._settings.probe_listen != OFF:
            self._probe = self._server.probe()
            self.probe_port = await self._probe.start(self._settings.probe_listen)
        on_listening(self.port)
        policy = Policy(self._settings.plugins_allow, self._settings.plugins_deny)
        discovery = await in_daemon_thread(discover, policy, self._settings.plugin)
        for refusal in discovery.refused:
            level = logging.INFO if refusal.code in UNWANTED else logging.WARNING
            name = refusal.plugin.distribution
            log.log(level, "plugin %s refused: %s: %s", name, refusal.code, refusal.reason, extra={"plugin": name})
        await self._lifecycle.bring_up(discovery)
        for fault in self._stray_overrides():
            log.warning("%s", fault)
        if self._settings.strict and (failures := self._failures()):
            raise StartupError("refusing to serve (strict): " + "; ".join(failures))

    async def stop(self) -> None:
        """Announce NOT_SERVING, finish what was accepted, end."""
        self._server.health.shut()
        await self._server.settle_arrivals()
        await self._lifecycle.drain(self._settings.drain_seconds)
        await self._server.stop(grace=1.0)
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
            exports_failed=self._lifecycle.exports_failed,
            streams=self._server.open_streams(),
            expiry=self._certificates.expiry if self._certificates else None,
        )

    def _resources_of(self, model: str) -> Resources:
        """What one model is given: what all get, but for its overrides."""
        given = self._settings.overrides(model)
        if "provider" in given:
            given["provider"] = choose(given["provider"])
        if "threads" in given:
            given["threads"] = given["threads"] or cpu_limit()
        return replace(self._resources, **given)

    def _announce(self, version: Version) -> None:
        """Keep health in step: a model serves while one of its versions does, the server while one model does."""
        versions = self.catalog.models[version.name].values()
        self._server.health.set(version.name, any(v.status.state is State.AVAILABLE for v in versions))
        available = any(v.status.state is State.AVAILABLE for v in self.catalog.versions())
        is_refused = self._settings.strict and bool(self._failures())
        self._server.health.set("", available and settled(self.catalog) and not is_refused)

    def _failures(self) -> list[str]:
        """What `strict` does not accept: plugins refused though the operator wants them, failures, stray overrides."""
        refused = [r for r in self.catalog.refused if r.code not in UNWANTED]
        failed = [version for version in self.catalog.versions() if version.status.state is State.FAILED]
        return [
            *(f"{refusal.plugin.distribution}: {refusal.reason}" for refusal in refused),
            *(f"{version.name}: {version.status.reason}" for version in failed),
            *self._stray_overrides(),
        ]

    def _stray_overrides(self) -> list[str]:
        """Settings and rows of models that are not there, and labels of versions that are not there."""
        models = self.catalog.models
        return [
            *(
                f"[models.{name!r}] names a model that is not installed"
                for name in sorted(self._settings.models.keys() - models.keys())
            ),
            *(
                f"[models.{name!r}] label {label!r} means version {number}, which is not installed"
                for name, overrides in self._settings.models.items()
                for label, number in overrides.labels.items()
                if name in models and number not in models[name]
            ),
            *(
                f"[[access]] the row of {row.principal!r} names model {name!r}, which is not installed"
                for row in self._settings.access or ()
                for name in row.models
                if name != ANY and name not in models
            ),
        ]


def _access(settings: Settings) -> Access:
    if settings.access is None:
        return Access()
    return Access([Rule(row.principal, frozenset(row.methods), frozenset(row.models)) for row in settings.access])


def _certificates(settings: Settings) -> Certificates | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificates(TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca))


def _tracing(kind: str) -> "Tracing | None":
    if kind == OFF:
        return None
    from mercato_server.telemetry.tracing import to_otlp

    return to_otlp()


async def serve(app: App, on_listening: Callable[[int], None], on_ready: Callable[[], None]) -> None:
    """Run until SIGTERM or SIGINT, then drain. Raises what `App.start` raises."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    starting = asyncio.create_task(_start(app, on_listening, on_ready))
    stopping = asyncio.create_task(stopped.wait())
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
