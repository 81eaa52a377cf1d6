"""A model's life, from discovered to unloaded: the one place that moves states along."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from mercato_server.contract.artifact import Artifact
from mercato_server.contract.plugin import Discovery, OfferedModel
from mercato_server.contract.state import STARTING, State
from mercato_server.control.resources import Resources
from mercato_server.errors import ExportFailed, LoadFailed, ProviderUnavailable, StartupError
from mercato_server.export.launch import export_model
from mercato_server.export.request import ExportRequest, Progress
from mercato_server.export.tools import tools_installed, usable
from mercato_server.plugins.daemon import in_daemon_thread
from mercato_server.runtime.inline import InlineLane
from mercato_server.runtime.worker import Worker
from mercato_server.serving.admission import Admission
from mercato_server.serving.batcher import Batcher
from mercato_server.serving.catalog import Catalog, Version
from mercato_server.store import Store
from mercato_server.store.offered import key_of

log = logging.getLogger("mercato.control")

OnProgress = Callable[[str, Progress], None]

ResourcesOf = Callable[[str], Resources]
"""From a model's name to what it is given. Raises StartupError when it cannot be had."""


class Lifecycle:
    """Brings the discovered models up, one export at a time and the loads side by side, and takes them down."""

    def __init__(self, catalog: Catalog, store: Store, resources_of: ResourcesOf, on_progress: OnProgress) -> None:
        self._catalog = catalog
        self._store = store
        self._resources_of = resources_of
        self._on_progress = on_progress
        self._exports = asyncio.Lock()
        self._lanes: dict[Version, InlineLane] = {}
        self.exports_failed = 0

    async def bring_up(self, discovery: Discovery) -> None:
        """Take every discovered model as far as it goes; returns when all are AVAILABLE or FAILED."""
        self._catalog.refused.extend(discovery.refused)
        entered = [(offered, self._catalog.add(_version(offered))) for offered in discovery.models]
        await asyncio.gather(*(self._bring_up_one(offered, version) for offered, version in entered))

    async def drain(self, seconds: float) -> None:
        """Stop taking requests, wait for those that were accepted, unload.

        Unfinished ones fail after `seconds`, and a model that is still busy then is left as it is.
        """
        self._catalog.draining = True
        available = [v for v in self._catalog.versions() if v.status.state is State.AVAILABLE]
        for version in available:
            self._catalog.move(version, State.DRAINING, "the server is stopping")
        finished = await asyncio.gather(*(_finished(version, seconds) for version in available))
        idle = [version for version, is_idle in zip(available, finished, strict=True) if is_idle]
        await asyncio.gather(*(self._unload(version) for version in idle))

    async def _bring_up_one(self, offered: OfferedModel, version: Version) -> None:
        try:
            resources = await in_daemon_thread(self._resources_of, version.name)
            resources.policy(offered.spec)  # a bound that is refused is not to cost an export first
            artifact = await self._artifact(offered, version)
            await self._load(offered, version, artifact, resources)
        except StartupError as error:
            log.error("model %s failed: %s: %s", version.name, error.reason, error, extra=version.named)
            self._catalog.move(version, State.FAILED, f"{error.reason}: {error}")
        except Exception as error:
            log.exception("model %s failed", version.name, extra=version.named)
            self._catalog.move(version, State.FAILED, f"INTERNAL: {type(error).__name__}; the log has the traceback")

    async def _artifact(self, offered: OfferedModel, version: Version) -> Artifact:
        """The stored artifact, or a fresh one when it is absent, damaged or made by other tools."""
        key = await in_daemon_thread(key_of, offered)
        artifact = await in_daemon_thread(usable, self._store, key)
        if artifact is not None:
            return artifact
        if tools_installed() is None:
            # Tells of the damage, if that is why there is none.
            found = await asyncio.to_thread(self._store.find, key)
            if found is not None:
                return found
            raise ExportFailed(
                f"model {version.name!r} has no stored artifact and the build tools are absent; install "
                "'mercato-server[export]' and the plugin's 'build' extra, or bring a filled store"
            )
        return await self._export(offered, version, key)

    async def _export(self, offered: OfferedModel, version: Version, key: str) -> Artifact:
        request = ExportRequest.of(offered, self._store.root, key)
        async with self._exports:
            self._catalog.move(version, State.EXPORTING)
            try:
                digest = await export_model(request, lambda progress: self._on_progress(version.name, progress))
            except Exception:
                self.exports_failed += 1
                raise
        return await asyncio.to_thread(self._store.open, digest)

    async def _load(self, offered: OfferedModel, version: Version, artifact: Artifact, resources: Resources) -> None:
        self._catalog.move(version, State.LOADING)
        policy = resources.policy(artifact.spec)
        version.digest, version.certificate = artifact.digest, artifact.certificate
        # Requests are weighed by the joint bound; `max_rows` stays what callers may send.
        version.spec = replace(artifact.spec, batch=replace(policy, max_rows=artifact.spec.batch.max_rows))
        worker, lane, note = await self._opened(offered, version, artifact, resources)
        self._lanes[version] = lane
        try:
            self._catalog.move(version, State.WARMING)
            await lane.warm()
            await in_daemon_thread(self._store.check_unchanged, artifact)
        except Exception:
            await self._lanes.pop(version).close()
            raise
        version.providers = worker.providers
        version.default_deadline = resources.default_deadline
        version.batcher = Batcher(version.name, lane, policy)
        version.admission = Admission(
            version.name, max_requests=resources.max_requests, max_bytes=resources.max_request_bytes
        )
        self._catalog.move(version, State.AVAILABLE, note)

    async def _opened(
        self, offered: OfferedModel, version: Version, artifact: Artifact, resources: Resources
    ) -> tuple[Worker, InlineLane, str]:
        """A loaded worker with its lane, and why it is not on a faster provider."""
        provider, threads = resources.provider, resources.threads
        try:
            return *await self._open(offered, version, artifact, provider.name, threads), provider.note
        except (ProviderUnavailable, LoadFailed) as error:
            if not provider.falls_back:
                raise
            log.warning("model %s does not load on %s: %s", version.name, provider.name, error, extra=version.named)
            return *await self._open(offered, version, artifact, "cpu", threads), f"auto fell back to cpu: {error}"

    async def _open(
        self, offered: OfferedModel, version: Version, artifact: Artifact, provider: str, threads: int
    ) -> tuple[Worker, InlineLane]:
        worker = Worker(offered, artifact, provider=provider, threads=threads)
        lane = InlineLane(worker, version.name)
        try:
            await lane.load()
        except Exception:
            await lane.close()
            raise
        return worker, lane

    async def _unload(self, version: Version) -> None:
        await self._lanes.pop(version).close()
        self._catalog.move(version, State.UNLOADED)


async def _finished(version: Version, seconds: float) -> bool:
    """Whether everything accepted was answered in time; what was not is given up."""
    assert version.batcher is not None
    finished = asyncio.ensure_future(version.batcher.finished())
    done, _ = await asyncio.wait([finished], timeout=seconds)
    if not done:
        finished.cancel()
        text = "model %s was still busy after %s s of draining; its requests were given up"
        log.error(text, version.name, seconds, extra=version.named)
        version.batcher.abandon()
        return False
    return True


def settled(catalog: Catalog) -> bool:
    """Whether no model is on its way any more."""
    return all(version.status.state not in STARTING for version in catalog.versions())


def _version(offered: OfferedModel) -> Version:
    return Version(offered.spec.name, offered.spec.version, offered.spec, offered.plugin)
