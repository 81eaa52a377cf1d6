"""Taking versions out of service: what was accepted is finished, then the lane is closed and the memory given back."""

import asyncio
import logging

from mercato_server.contract.host import ModelLane
from mercato_server.contract.state import State
from mercato_server.control.loading import Loader
from mercato_server.control.posts import OUT, Post, Roster, Seat
from mercato_server.serving.catalog import Catalog, Version

log = logging.getLogger("mercato.control")


class Retirement:
    """`hurry` ends every wait: requests that are still in flight are given up then, and workers end at once."""

    def __init__(self, catalog: Catalog, roster: Roster, loader: Loader) -> None:
        self._catalog = catalog
        self._roster = roster
        self._loader = loader
        self.hurry = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()

    def begin(self, version: Version, reason: str) -> None:
        """Let a version take no more requests; one that does not serve is UNLOADED at once."""
        state = version.status.state
        if state is State.AVAILABLE:
            self._catalog.move(version, State.DRAINING, reason)
        elif state is not State.UNLOADED:
            self._catalog.move(version, State.UNLOADED, reason)

    async def end(self, version: Version, seconds: float) -> None:
        """Finish what a version has accepted, for `seconds` at most, and unload it; `begin` was called before."""
        until = asyncio.get_running_loop().time() + seconds
        is_draining = version.status.state is State.DRAINING
        is_idle = not is_draining or await self.finished(version, seconds)
        found = self._roster.seat_of(version)
        if found is not None:
            await self._vacate(*found, is_idle, until)
        self.unloaded(version)

    def unloaded(self, version: Version) -> None:
        """Nothing is left of a version that was DRAINING."""
        if version.status.state is State.DRAINING:
            self._catalog.move(version, State.UNLOADED)

    async def finished(self, version: Version, seconds: float) -> bool:
        """Whether everything accepted was answered in time; what was not is given up."""
        assert version.engine is not None
        work = asyncio.get_running_loop().create_task(version.engine.batcher.finished())
        if await self._in_time(work, seconds):
            return True
        work.cancel()
        when = "when the server was told to hurry" if self.hurry.is_set() else f"after {seconds:g} s of draining"
        text = "model %r version %d was still busy %s; its requests were given up"
        log.error(text, version.name, version.number, when, extra=version.named)
        version.engine.batcher.abandon(version.status.reason)
        return False

    async def undo(self, post: Post) -> None:
        """End a worker whose versions never served."""
        await self.close(post)
        for seat in post.seats.values():
            self._loader.release(seat)

    async def close(self, post: Post) -> None:
        """End a worker with its lanes: at once when, or as soon as, the server is told to hurry."""
        closing = asyncio.get_running_loop().create_task(post.close(at_once=self.hurry.is_set()))
        if not await self._in_time(closing, None):
            await post.close(at_once=True)
        await closing

    async def _vacate(self, post: Post, seat: Seat, is_idle: bool, until: float) -> None:
        is_alone = all(other is seat or other.version.status.state in OUT for other in post.seats.values())
        # The end of the process is faster than a batch that hangs.
        is_left = not is_idle and is_alone
        if seat.lane is not None and not is_left:
            await self._close_lane(seat.lane, seat, until if is_idle else 0.0)
        if is_alone:
            await self.close(post)
        if is_left:
            self._loader.release(seat)
        await self._roster.leave(post, seat.version)

    async def _close_lane(self, lane: ModelLane, seat: Seat, until: float) -> None:
        """Close a lane; what takes longer goes on behind, and its memory counts until then."""
        loop = asyncio.get_running_loop()
        closing = loop.create_task(lane.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        closing.add_done_callback(lambda _: self._loader.release(seat))
        if await self._in_time(closing, max(0.0, until - loop.time())):
            await closing

    async def _in_time(self, work: asyncio.Task[None], seconds: float | None) -> bool:
        """Whether a task ended within so many seconds (None: any) and before the hurry; else it goes on."""
        hurried = asyncio.get_running_loop().create_task(self.hurry.wait())
        try:
            await asyncio.wait([work, hurried], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurried.cancel()
        return work.done()
