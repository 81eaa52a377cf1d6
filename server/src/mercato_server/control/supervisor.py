"""Following each worker to its end, and starting it again as often as its crash budget allows."""

import asyncio
import logging

from mercato_server.contract.state import State
from mercato_server.control.loading import Loader, as_startup_error
from mercato_server.control.posts import LEAVING, Post, Roster, Seat, Unstarted
from mercato_server.errors import LoadFailed, PluginRefused, StartupError, WorkerCrashed
from mercato_server.serving.catalog import Catalog, Version

log = logging.getLogger("mercato.control")

PASSING = ("IMPORT_CRASHED", "IMPORT_TIMEOUT")
"""Refusals at a restart that may be the host's doing, such as a machine that is short of memory or time."""


class Supervisor:
    """Watches every post that it is told to follow."""

    def __init__(self, catalog: Catalog, roster: Roster, loader: Loader) -> None:
        self._catalog = catalog
        self._roster = roster
        self._loader = loader

    def follow(self, post: Post) -> None:
        """Watch a post whose host was started, until it is closed or has crashed too often."""
        post.watching = asyncio.get_running_loop().create_task(self._watch(post))

    async def _watch(self, post: Post) -> None:
        try:
            await self._keep(post)
        except Exception as error:  # nobody else would ever start it again, nor say so
            log.error("the worker of %s is lost", post.plugin.distribution, exc_info=error)
            await self._give_up(post, StartupError(_told(post, f"is lost: {type(error).__name__}, see the log")))

    async def _keep(self, post: Post) -> None:
        why = await post.ended()
        while (pause := self._crashed(post, why)) is not None:
            await post.host.close()
            await self._roster.clock.sleep(pause)
            if not post.is_wanted:
                return await post.close()
            try:
                why = await self._again(post)
            except PluginRefused as error:
                if error.code not in PASSING and not isinstance(error, Unstarted):
                    return await self._give_up(post, error)
                why = post.history.last_crash = str(error)
        return await self._give_up(post, _used_up(post))

    def _crashed(self, post: Post, why: str) -> float | None:
        """Interrupt what it served; the seconds until it is started again, None when it is not."""
        reason = f"the worker of {post.plugin.distribution} {why} and is started again"
        pause = post.budget.crashed()
        for seat in post.seats.values():
            self._loader.release(seat)
            if pause is not None and seat.is_restartable:
                self._catalog.move(seat.version, State.LOADING, reason)
        return pause

    async def _again(self, post: Post) -> str:
        """Start a host in the same place, load into it what was loaded, and give how it ended."""
        await post.start_again(self._roster.host_of(post.plugin))
        post.history.restarts += 1
        loading = asyncio.get_running_loop().create_task(self._load_again(post))
        try:
            why = await post.ended()
            await loading  # a load in a worker that has ended fails at once
        finally:
            loading.cancel()
        return why

    async def _load_again(self, post: Post) -> None:
        """Load what was loaded; what does not get its turn because the host ends goes on in the next one."""
        for seat in list(post.seats.values()):
            if seat.placement is not None and seat.version.status.state is State.LOADING:
                await self._load_one(post, seat)
        if not post.is_wanted:
            await post.close()

    async def _load_one(self, post: Post, seat: Seat) -> None:
        try:
            if await self._loader.load_again(post, seat, self._move):
                self._move(seat.version, State.AVAILABLE, seat.note)
                seat.has_fallen = False
        except Exception as error:
            # Whoever ended the worker may have meant another version, but hardly twice in a row.
            if post.has_ended and not seat.has_fallen:
                seat.has_fallen = True
                return
            known = as_startup_error(error, seat.version)
            self._move(seat.version, State.FAILED, f"{known.reason}: {known}")
        if seat.version.status.state is State.UNLOADED and seat.lane is not None:
            await seat.lane.close()
            self._loader.release(seat)

    def _move(self, version: Version, state: State, reason: str) -> None:
        """Move a version on, unless it was unloaded meanwhile."""
        if version.status.state is not State.UNLOADED:
            self._catalog.move(version, state, reason)

    async def _give_up(self, post: Post, error: StartupError) -> None:
        """Fail what the worker served or was to serve."""
        name = post.plugin.distribution
        log.error("the worker of %s is not started again: %s: %s", name, error.reason, error, extra={"plugin": name})
        for seat in post.seats.values():
            if seat.placement is not None and seat.version.status.state not in LEAVING:
                self._catalog.move(seat.version, State.FAILED, f"{error.reason}: {error}")
        await post.close(error)


def _used_up(post: Post) -> StartupError:
    error = LoadFailed(_told(post, f"{post.budget.used_up()}, last: {post.history.last_crash}"))
    error.reason = WorkerCrashed.reason
    return error


def _told(post: Post, what: str) -> str:
    """What has become of a worker for good, and the way out."""
    distribution = post.plugin.distribution
    return f"the worker of {distribution} {what}; `mercato admin load --plugin {distribution}` tries again"
