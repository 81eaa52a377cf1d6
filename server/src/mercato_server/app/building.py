"""The parts of one server, made from its settings."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from mercato_server.config import OFF, Settings
from mercato_server.contract.host import Host
from mercato_server.contract.plugin import Discovery, Numbered, PluginInfo
from mercato_server.control.crashes import CrashLimits
from mercato_server.control.loading import Loader, ResourcesOf
from mercato_server.control.memory import MemoryBudget
from mercato_server.control.posts import HostOf, Roster
from mercato_server.plugins.host import load_one
from mercato_server.rpc.access import Access, Rule
from mercato_server.rpc.server import Limits
from mercato_server.rpc.tls import Certificates, TlsFiles
from mercato_server.serving.admission import Callers, Pool
from mercato_server.serving.catalog import Catalog
from mercato_server.serving.process import Process
from mercato_server.store import Store

if TYPE_CHECKING:
    from mercato_server.telemetry.tracing import Tracing


def catalog(settings: Settings) -> Catalog:
    """The empty catalog, which knows the labels and gates that are configured, and whether there are model folders."""
    labels = {name: dict(overrides.labels) for name, overrides in settings.models.items()}
    return Catalog(labels=labels, gates=settings.gates(), has_folders=settings.models_dir is not None)


def loader(settings: Settings, resources_of: ResourcesOf) -> Loader:
    """What loads models, with the bounds that they share."""
    pool = Pool(max_requests=settings.max_total_requests, max_bytes=settings.max_total_request_bytes)
    callers = Callers(
        weights={name: caller.weight for name, caller in settings.callers.items()},
        quotas={name: caller.max_requests for name, caller in settings.callers.items()},
    )
    return Loader(Store(settings.store), resources_of, MemoryBudget(settings.memory_limit), Process(pool, callers))


def limits(settings: Settings) -> Limits:
    """The limits of the data port."""
    return Limits(
        settings.max_message_bytes, settings.max_message_fields, settings.default_deadline, settings.connection_age
    )


def roster(settings: Settings, threads: int) -> Roster:
    """The workers; `threads` is the number of cores that one run may use."""
    crashes = CrashLimits(settings.crash_budget, settings.crash_window)
    return Roster(_hosts(settings, threads), settings.isolation, crashes)


def _hosts(settings: Settings, threads: int) -> HostOf:
    """Makes the workers' hosts; onnxruntime is imported only where they are threads of this process."""
    shared = threads if settings.thread_pool == "worker" else 0
    return _inline_hosts(settings, shared) if settings.isolation == "inline" else _process_hosts(settings, shared)


def _inline_hosts(settings: Settings, shared: int) -> HostOf:
    from mercato_server.runtime.inline import InlineHost
    from mercato_server.runtime.session import share_threads

    if shared:
        share_threads(shared)

    folders = settings.served_folders()

    def host_of(plugin: PluginInfo) -> Host:
        def find(keeping: Collection[Numbered], alone: bool) -> Discovery:
            return load_one(plugin, settings.plugin, folders.keeping(keeping, alone=alone))

        return InlineHost(plugin, find, settings.import_timeout, settings.load_timeout)

    return host_of


def _process_hosts(settings: Settings, shared: int) -> HostOf:
    from mercato_server.runtime.process import ProcessHost, WorkerLimits

    bounds = WorkerLimits(
        import_timeout=settings.import_timeout,
        load_timeout=settings.load_timeout,
        batch_timeout=settings.batch_timeout,
        memory=settings.worker_memory,
        shared_threads=shared,
        log_level=settings.log_level,
        log_format=settings.log_format,
    )
    folders = settings.served_folders()
    return lambda plugin: ProcessHost(plugin, settings.plugin(plugin.distribution), bounds, folders)


def access(settings: Settings) -> Access:
    """The access table."""
    if settings.access is None:
        return Access()
    return Access([Rule(row.principal, frozenset(row.methods), frozenset(row.models)) for row in settings.access])


def certificates(settings: Settings) -> Certificates | None:
    """The certificates, None in plain text."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificates(TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca))


def tracing(kind: str) -> "Tracing | None":
    """What sends spans, None when it is off."""
    if kind == OFF:
        return None
    from mercato_server.telemetry.tracing import to_otlp

    return to_otlp()
