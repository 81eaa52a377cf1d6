"""One load beside what serves: fresh workers, and one step in which their versions take the place of the old ones."""

import asyncio
from collections.abc import Callable, Collection, Sequence

from mercato_server.contract.administration import LoadStep
from mercato_server.contract.plugin import Numbered, Offer, Offers, PluginInfo, Refusal
from mercato_server.contract.state import State
from mercato_server.control.discovery import refusal_for_names
from mercato_server.control.lifecycle import Lifecycle, seated
from mercato_server.control.loading import as_startup_error
from mercato_server.control.posts import Post, Seat
from mercato_server.errors import LoadFailed, LoadRefused, PluginRefused, StartupError
from mercato_server.export.request import Progress
from mercato_server.serving.catalog import Catalog, Version

Tell = Callable[[LoadStep], None]


class Reload:
    """One load, to be closed whatever comes of it. Its versions are in the catalog only once all of them are ready."""

    def __init__(self, catalog: Catalog, lifecycle: Lifecycle, tell: Tell, installed: Collection[PluginInfo]) -> None:
        """`installed` are the plugins of the distribution as it is now."""
        self._catalog = catalog
        self._lifecycle = lifecycle
        self._roster = lifecycle.roster
        self._tell = tell
        self._entry_points = {plugin.entry_point for plugin in installed}
        self._posts: dict[Post, Offers] = {}

    async def run(self, plugins: Sequence[PluginInfo], model: str) -> list[Version]:
        """Load the plugins' models, or one of them, and give the versions that were replaced, still to be unloaded.

        Raises LoadRefused; the catalog is as it was then.
        """
        for plugin in plugins:
            await self._stand(plugin, model)
        for post in self._posts:
            for seat in post.seats.values():
                await self._load(post, seat)
        return await self._swap()

    async def close(self) -> None:
        """End the workers of it that do not serve."""
        await asyncio.gather(*map(self._lifecycle.retirement.undo, self._posts))

    async def _stand(self, plugin: PluginInfo, model: str) -> None:
        """Start a fresh worker, with a seat for each model that is to be loaded."""
        post = self._roster.post(plugin)
        self._posts[post] = Offers()
        try:
            offers = self._posts[post] = await post.start(self._served(plugin))
        except PluginRefused as error:
            raise LoadRefused(str(error), model=model, reason=error.code) from error
        wanted = [offer for offer in offers.models if not model or offer.spec.name == model]
        self._check(plugin, offers, wanted, model)
        for refusal in offers.refused:
            self._tell_refusal(refusal, model)
        for offer in wanted:
            if (version := self._unchanged(offer)) is not None:
                self._tell(LoadStep(version.name, version.number, State.AVAILABLE, digest=version.digest))
            else:
                seated(post, offer)

    def _served(self, plugin: PluginInfo) -> list[Numbered]:
        """What serves of a distribution: a load brings it up to date, and does not take it away."""
        return [
            (version.name, version.number)
            for version in self._catalog.versions()
            if version.plugin.distribution == plugin.distribution and version.status.state is State.AVAILABLE
        ]

    def _check(self, plugin: PluginInfo, offers: Offers, wanted: Sequence[Offer], model: str) -> None:
        if not wanted:
            raise self._nothing(plugin, offers, model)
        if refusal := refusal_for_names(plugin, offers.models, self._staying(plugin)):
            raise LoadRefused(refusal.reason, model=model, reason=refusal.code)
        if not self._roster.is_current(plugin, offers):
            text = (
                f"the source of {plugin.distribution} changed on disk; code that runs inline is imported once: "
                "restart the server, or serve with --isolation process"
            )
            raise LoadRefused(text, model=model, reason=LoadFailed.reason)

    def _nothing(self, plugin: PluginInfo, offers: Offers, model: str) -> LoadRefused:
        """Why there is nothing to load."""
        for refusal in offers.refused:
            if not model or refusal.model == model:
                return LoadRefused(refusal.reason, model=refusal.model, reason=refusal.code)
        who, names = f"{plugin.distribution} {plugin.version}", ", ".join(sorted({o.spec.name for o in offers.models}))
        for untrained in offers.untrained:
            if not model or untrained.model == model:
                text = f"{untrained.model} of {who} is untrained; make a version of it with `mercato train`"
                return LoadRefused(text, model=untrained.model, reason=LoadFailed.reason)
        text = f"{who} does not offer model {model!r} any more; it offers {names or 'none'}"
        return LoadRefused(text, model=model, reason=LoadFailed.reason)

    def _tell_refusal(self, refusal: Refusal, model: str) -> None:
        """A version that cannot be loaded takes no other along; one that serves all the same serves on."""
        old = self._old(refusal.model, refusal.version)
        is_served = old is not None and old.status.state is State.AVAILABLE
        if not is_served and (not model or refusal.model == model):
            reason = f"{refusal.code}: {refusal.reason}"
            self._tell(LoadStep(refusal.model, refusal.version, State.FAILED, reason=reason))

    def _staying(self, plugin: PluginInfo) -> list[Version]:
        """What is served and still installed: an entry point that was renamed gives its models to the new one."""
        return [
            version
            for version in self._catalog.versions()
            if version.plugin.distribution != plugin.distribution or version.plugin.entry_point in self._entry_points
        ]

    def _unchanged(self, offer: Offer) -> Version | None:
        """The version that serves what is offered, if there is one."""
        version = self._old(offer.spec.name, offer.spec.version)
        if version is None or version.status.state is not State.AVAILABLE:
            return None
        found = self._roster.seat_of(version)
        return version if found is not None and found[1].offer.key == offer.key else None

    async def _load(self, post: Post, seat: Seat) -> None:
        def on_progress(model: str, progress: Progress) -> None:
            facts = (progress.step, progress.done, progress.total)
            self._tell(LoadStep(model, seat.version.number, State.EXPORTING, *facts))

        try:
            await self._lifecycle.loader.load(post, seat, self._move, on_progress)
        except Exception as error:
            raise self._refused(seat.version, as_startup_error(error, seat.version)) from error

    async def _swap(self) -> list[Version]:
        """Put the new versions in the place of the old ones, in one turn of the loop; gives the old ones."""
        posts = [post for post in self._posts if post.seats]
        for post in posts:
            if post.has_ended:
                raise self._refused(next(iter(post.seats)), await post.ending())
        replaced = [old for post in posts for seat in post.seats.values() if (old := self._put(seat)) is not None]
        for post in posts:
            self._roster.enter(post)
            self._lifecycle.supervisor.follow(post)
        self._note()
        self._posts = {post: offers for post, offers in self._posts.items() if not post.seats}
        return replaced

    def _note(self) -> None:
        """What of the plugins is not served now; what was refused under an entry point that is gone is forgotten."""
        distributions = {post.plugin.distribution for post in self._posts}
        self._catalog.refused[:] = [
            refusal
            for refusal in self._catalog.refused
            if refusal.plugin.distribution not in distributions or refusal.plugin.entry_point in self._entry_points
        ]
        for post, offers in self._posts.items():
            self._lifecycle.note(post.plugin, offers)

    def _put(self, seat: Seat) -> Version | None:
        version = seat.version
        old = self._old(version.name, version.number)
        self._move(version, State.AVAILABLE, seat.note)
        self._catalog.add(version)
        if old is not None:
            self._lifecycle.retirement.begin(old, "it was loaded anew")
        return old

    def _old(self, name: str, number: int) -> Version | None:
        return self._catalog.models.get(name, {}).get(number)

    def _move(self, version: Version, state: State, reason: str = "") -> None:
        version.status = version.status.to(state, reason)
        self._tell(LoadStep(version.name, version.number, state, digest=version.digest, reason=reason))

    def _refused(self, version: Version, error: StartupError) -> LoadRefused:
        self._move(version, State.FAILED, f"{error.reason}: {error}")
        text = f"model {version.name!r} version {version.number} was not loaded: {error}; what served before serves on"
        return LoadRefused(text, model=version.name, reason=error.reason)
