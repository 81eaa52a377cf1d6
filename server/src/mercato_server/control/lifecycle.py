"""A model's life, from discovered to unloaded: the start and the end of the server."""

import asyncio
import itertools
import logging
from collections.abc import Iterable, Sequence
from contextlib import aclosing

from mercato_server.contract.plugin import Offer, Offers, PluginInfo, Refusal
from mercato_server.contract.state import State
from mercato_server.control.discovery import Found, discover, refusal_for_names
from mercato_server.control.loading import Loader, OnProgress, as_startup_error
from mercato_server.control.posts import Post, Roster, Seat
from mercato_server.control.retiring import Retirement
from mercato_server.control.supervisor import Supervisor
from mercato_server.serving.catalog import Catalog, Version

log = logging.getLogger("mercato.control")

# Refusals that the operator's own lists ask for.
UNWANTED = ("DENIED", "NOT_ALLOWED")


class Lifecycle:
    """Brings the plugins' models up, one export at a time and the workers side by side, and takes them down."""

    def __init__(self, catalog: Catalog, roster: Roster, loader: Loader, on_progress: OnProgress) -> None:
        self._catalog = catalog
        self.loader = loader
        self._on_progress = on_progress
        self.roster = roster
        self.supervisor = Supervisor(catalog, roster, loader)
        self.retirement = Retirement(catalog, roster, loader)
        self._begun = asyncio.Event()
        self._starting: dict[PluginInfo, asyncio.Event] = {}

    async def bring_up(self, plugins: Iterable[PluginInfo], refused: Sequence[Refusal] = ()) -> None:
        """Take every model of these plugins as far as it goes; returns when all have been AVAILABLE or FAILED.

        A plugin that is slow to import holds up none of the others.
        """
        self._starting = {plugin: asyncio.Event() for plugin in plugins}
        self._begun.set()
        self._refuse(refused)
        async with asyncio.TaskGroup() as group, aclosing(discover(self.roster, self._starting)) as answers:
            async for found in answers:
                for post, seats in (await self._entered(found)).items():
                    group.create_task(self._bring_up_plugin(post, seats))

    async def brought_up(self, distribution: str) -> None:
        """Return when a distribution's plugins have been brought up or refused, if they were there at the start."""
        await self._begun.wait()
        for plugin, done in self._starting.items():
            if plugin.distribution == distribution:
                await done.wait()

    async def drain(self, seconds: float) -> None:
        """Stop taking requests, wait for those that were accepted, unload, end the workers.

        Unfinished requests fail after `seconds`, or when `retirement.hurry` is set. A model that is still busy then is
        left as it is.
        """
        self._catalog.draining = True
        posts = self.roster.posts.copy()
        for post in posts:
            post.unwatch()
        for _, seat in self.roster.seats():
            if seat.version.status.state is State.AVAILABLE:
                self._catalog.move(seat.version, State.DRAINING, "the server is stopping")
        await asyncio.gather(*(self._end(post, seconds) for post in posts))

    async def _end(self, post: Post, seconds: float) -> None:
        """Finish what the versions of a worker have accepted, and end it with its lanes."""
        seats = [seat for seat in post.seats.values() if seat.version.status.state is State.DRAINING]
        are_idle = await asyncio.gather(*(self.retirement.finished(seat.version, seconds) for seat in seats))
        await self.retirement.close(post)
        for seat in itertools.compress(seats, are_idle):
            self.loader.release(seat)
            self.retirement.unloaded(seat.version)

    async def _entered(self, found: Found) -> dict[Post, list[Seat]]:
        """The catalog's versions of what was found, each in its seat."""
        for post, offers in list(found.posts.items()):
            refusal = refusal_for_names(post.plugin, offers.models, self._catalog.versions())
            if refusal is not None:
                found.refused.append(refusal)
                del found.posts[post]
                await post.close()
        self._refuse(found.refused)
        return {post: self._seated(post, offers) for post, offers in found.posts.items()}

    def _seated(self, post: Post, offers: Offers) -> list[Seat]:
        self.roster.is_current(post.plugin, offers)  # for the loads to come
        self.note(post.plugin, offers)
        seats = [seated(post, offer) for offer in offers.models]
        for seat in seats:
            self._catalog.add(seat.version)
        if seats:
            self.roster.enter(post)
            self.supervisor.follow(post)
        return seats

    def note(self, plugin: PluginInfo, offers: Offers) -> None:
        """Tell log and catalog what of a plugin is not served, in place of what was told of it before."""
        for refusal in offers.refused:
            _log_refusal(refusal)
        for model in offers.untrained:
            log.info("model %s is installed and untrained", model.model, extra={"plugin": plugin.distribution})
        self._catalog.note(plugin, offers)

    def _refuse(self, refused: Iterable[Refusal]) -> None:
        for refusal in refused:
            _log_refusal(refusal)
            self._catalog.refused.append(refusal)
            if refusal.plugin in self._starting:
                self._starting[refusal.plugin].set()

    async def _bring_up_plugin(self, post: Post, seats: Sequence[Seat]) -> None:
        await asyncio.gather(*(self._bring_up_one(post, seat) for seat in seats))
        if not post.is_needed:
            await post.close()
        self._starting[post.plugin].set()

    async def _bring_up_one(self, post: Post, seat: Seat) -> None:
        version = seat.version
        try:
            await self.loader.load(post, seat, self._catalog.move, self._on_progress)
        except Exception as error:
            known = as_startup_error(error, version)
            self._catalog.move(version, State.FAILED, f"{known.reason}: {known}")
        else:
            self._catalog.move(version, State.AVAILABLE, seat.note)


def _log_refusal(refusal: Refusal) -> None:
    level = logging.INFO if refusal.code in UNWANTED else logging.WARNING
    name, version = refusal.plugin.distribution, f" version {refusal.version}" if refusal.version else ""
    what = f"model {refusal.model}{version} of plugin" if refusal.model else "plugin"
    log.log(level, "%s %s refused: %s: %s", what, name, refusal.code, refusal.reason, extra={"plugin": name})


def seated(post: Post, offer: Offer) -> Seat:
    """A seat for a version that is offered."""
    seat = Seat(Version(offer.spec.name, offer.spec.version, offer.spec, offer.plugin, offer.metrics), offer)
    post.seats[seat.version] = seat
    return seat
