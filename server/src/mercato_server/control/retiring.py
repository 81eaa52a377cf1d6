"""Taking versions out of service: what was accepted is finished, then the lane is closed and the memory given back."""

import asyncio
import logging

from mercato_server.contract.state import State
from mercato_server.control.loading import Loader
from mercato_server.control.posts import OUT, Post, Roster, Seat
from mercato_server.serving.catalog import Catalog, Version

log = logging.getLogger("mercato.control")


class Retirement:
    """`hurry` ends every wait for requests: those that are still in flight are given up then."""

    def __init__(self, catalog: Catalog, roster: Roster, loader: Loader) -> None:
        self._catalog = catalog
        self._roster = roster
        self._loader = loader
        self.hurry = asyncio.Event()

    def begin(self, version: Version, reason: str) -> None:
        """Let a version take no more requests; one that does not serve is UNLOADED at once."""
        state = version.status.state
        if state is State.AVAILABLE:
            self._catalog.move(version, State.DRAINING, reason)
        elif state is not State.UNLOADED:
            self._catalog.move(version, State.UNLOADED, reason)

    async def end(self, version: Version, seconds: float) -> None:
        """Finish what a version has accepted, for `seconds` at most, and unload it; `begin` was called before."""
        is_draining = version.status.state is State.DRAINING
        is_idle = not is_draining or await self.finished(version, seconds)
        found = self._roster.seat_of(version)
        if found is not None:
            await self._vacate(*found, is_idle)
        self.unloaded(version)

    def unloaded(self, version: Version) -> None:
        """Nothing is left of a version that was DRAINING."""
        if version.status.state is State.DRAINING:
            self._catalog.move(version, State.UNLOADED)

    async def finished(self, version: Version, seconds: float) -> bool:
        """Whether everything accepted was answered in time; what was not is given up."""
        assert version.batcher is not None
        loop = asyncio.get_running_loop()
        finished, hurried = loop.create_task(version.batcher.finished()), loop.create_task(self.hurry.wait())
        try:
            await asyncio.wait([finished, hurried], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if finished.done():
                return True
        finally:
            finished.cancel()
            hurried.cancel()
        when = "when the server was told to hurry" if self.hurry.is_set() else f"after {seconds:g} s of draining"
        log.error("model %s was still busy %s; its requests were given up", version.name, when, extra=version.named)
        version.batcher.abandon()
        return False

    async def undo(self, post: Post) -> None:
        """End a worker whose versions never served."""
        for seat in post.seats.values():
            if seat.lane is not None:
                await seat.lane.close()
            self._loader.release(seat)
        await post.close()

    async def _vacate(self, post: Post, seat: Seat, is_idle: bool) -> None:
        is_alone = all(other is seat or other.version.status.state in OUT for other in post.seats.values())
        # The end of the process is faster than a batch that hangs.
        if seat.lane is not None and (is_idle or not is_alone):
            await seat.lane.close()
        self._loader.release(seat)
        await self._roster.leave(post, seat.version)
