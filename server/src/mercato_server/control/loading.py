"""Taking one version from what its plugin offers to warmed: the artifact, the memory, the lane, the serving parts."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from mercato_server.contract.artifact import Artifact
from mercato_server.contract.host import Loaded, ModelLane, Placement
from mercato_server.contract.state import State
from mercato_server.control.memory import MemoryBudget, Reservation, predicted_bytes
from mercato_server.control.posts import Post, Seat
from mercato_server.control.resources import Resources
from mercato_server.errors import ExportFailed, LoadFailed, ProviderUnavailable, StartupError
from mercato_server.export.launch import export_model
from mercato_server.export.request import ExportRequest, Progress
from mercato_server.export.tools import tools_installed, usable
from mercato_server.plugins.daemon import in_daemon_thread
from mercato_server.serving.catalog import Version
from mercato_server.serving.engine import Engine
from mercato_server.serving.process import Process
from mercato_server.store import Store

log = logging.getLogger("mercato.control")

OnProgress = Callable[[str, Progress], None]

Move = Callable[[Version, State, str], None]
"""Moves a version to a state with its reason."""

ResourcesOf = Callable[[str], Resources]
"""From a model's name to what it is given. Raises StartupError when it cannot be had."""


class Loader:
    """One export at a time; loads are side by side but for those in one process. `process` is what models share."""

    def __init__(self, store: Store, resources_of: ResourcesOf, memory: MemoryBudget, process: Process) -> None:
        self._store = store
        self._resources_of = resources_of
        self._memory = memory
        self._process = process
        self._exports = asyncio.Lock()
        self.exports_failed = 0

    async def load(self, post: Post, seat: Seat, move: Move, on_progress: OnProgress) -> None:
        """Take the seat's version to WARMING, with all that it needs to be AVAILABLE.

        Raises StartupError; nothing of it is loaded then.
        """
        version = seat.version
        resources = await in_daemon_thread(self._resources_of, version.name)
        resources.policy(seat.offer.spec)  # a bound that is refused is not to cost an export first
        artifact = await self._artifact(seat, move, on_progress)
        move(version, State.LOADING, "")
        policy = resources.policy(artifact.spec)
        version.digest, version.certificate, seat.artifact = artifact.digest, artifact.certificate, artifact
        # What callers may send stays what the plugin declares.
        version.spec = replace(artifact.spec, batch=replace(policy, request_rows=artifact.spec.batch.rows_per_request))
        lane = await self._placed(post, seat, artifact, resources, move)
        version.default_deadline = resources.default_deadline
        version.engine = Engine(version.name, artifact.digest, lane, policy, resources.bounds, self._process)

    async def load_again(self, post: Post, seat: Seat, move: Move) -> bool:
        """Take a version that was loaded before to WARMING in the post's host of now, and have its queue go there.

        False when the host has ended before its turn came. Raises StartupError; nothing of it is loaded then.
        """
        assert seat.artifact is not None and seat.placement is not None and seat.version.engine is not None
        await in_daemon_thread(self._store.check_unchanged, seat.artifact)
        async with post.loading:
            if post.has_ended:
                return False
            lane = await self._opened(post, seat, seat.placement, move)
        seat.version.engine.batcher.attach(lane)
        return True

    def release(self, seat: Seat) -> None:
        """The seat's lane was closed, or its worker has ended: its memory is free."""
        if seat.lane is not None:
            assert seat.reservation is not None
            self._memory.release(seat.reservation)
            seat.lane, seat.reservation, seat.version.nbytes = None, None, 0

    async def _artifact(self, seat: Seat, move: Move, on_progress: OnProgress) -> Artifact:
        """The stored artifact, or a fresh one when it is absent, damaged or made by other tools."""
        key = seat.offer.key
        artifact = await in_daemon_thread(usable, self._store, key)
        if artifact is not None:
            return artifact
        if tools_installed() is None:
            # Tells of the damage, if that is why there is none.
            found = await asyncio.to_thread(self._store.find, key)
            if found is not None:
                return found
            raise ExportFailed(
                f"{_what(seat.version)} has no stored artifact and the build tools are absent; install "
                "'mercato-server[export]' and the plugin's 'build' extra, or bring a filled store"
            )
        return await self._export(seat, move, on_progress)

    async def _export(self, seat: Seat, move: Move, on_progress: OnProgress) -> Artifact:
        name = seat.version.name
        request = ExportRequest.of(seat.offer, self._store.root, seat.offer.key)
        async with self._exports:
            move(seat.version, State.EXPORTING, "")
            try:
                digest = await export_model(request, lambda progress: on_progress(name, progress))
            except Exception:
                self.exports_failed += 1
                raise
        return await asyncio.to_thread(self._store.open, digest)

    async def _placed(self, post: Post, seat: Seat, artifact: Artifact, resources: Resources, move: Move) -> ModelLane:
        """A warm lane, on the CPU where `auto` does not come further."""
        provider, version = resources.provider, seat.version
        placement = Placement(artifact, provider.name, resources.threads)
        async with post.turn():
            try:
                seat.note = provider.note
                return await self._opened(post, seat, placement, move)
            except (ProviderUnavailable, LoadFailed) as error:
                if not provider.falls_back or version.status.state is not State.LOADING or post.has_ended:
                    raise
                text = "%s does not load on %s: %s"
                log.warning(text, _what(version), provider.name, error, extra=version.named)
                seat.note = f"auto fell back to cpu: {error}"
                return await self._opened(post, seat, replace(placement, provider="cpu"), move)

    async def _opened(self, post: Post, seat: Seat, placement: Placement, move: Move) -> ModelLane:
        """A warm lane within the memory that is left."""
        post.check_key(seat.offer)
        artifact, version = placement.artifact, seat.version
        predicted = await in_daemon_thread(predicted_bytes, artifact)
        reservation = self._memory.reserve(artifact.digest, predicted, version.name)
        host = post.host
        try:
            lane = post.lane(seat, placement)
            loaded = await self._warmed(lane, version, artifact, reservation, move)
            if post.host is not host or post.has_ended:  # after the warm-up had succeeded
                raise await post.ending()
        except BaseException:
            self._memory.release(reservation)
            raise
        seat.lane, seat.reservation, seat.placement = lane, reservation, placement
        version.providers, version.nbytes = loaded.providers, loaded.nbytes
        return lane

    async def _warmed(
        self, lane: ModelLane, version: Version, artifact: Artifact, reservation: Reservation, move: Move
    ) -> Loaded:
        """Load and warm up a lane. Whoever cancels that ends the host, which ends its lanes."""
        try:
            await lane.load()
            move(version, State.WARMING, "")
            loaded = await lane.warm()
            await in_daemon_thread(self._store.check_unchanged, artifact)
            self._memory.settle(reservation, loaded.nbytes)
        except Exception:
            await lane.close()
            raise
        return loaded


def as_startup_error(error: Exception, version: Version) -> StartupError:
    """What is told of a load that raised; its traceback, where it is nobody's expected failure, goes to the log."""
    if isinstance(error, StartupError):
        log.error("%s failed: %s: %s", _what(version), error.reason, error, extra=version.named)
        return error
    log.error("%s failed", _what(version), exc_info=error, extra=version.named)
    unexpected = StartupError(f"{type(error).__name__}; the log has the traceback")
    unexpected.__cause__ = error
    return unexpected


def _what(version: Version) -> str:
    """As errors and the log name it."""
    return f"model {version.name!r} version {version.number}"
