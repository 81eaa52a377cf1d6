"""One load beside what serves: fresh workers, and one step in which their versions take the place of the old ones."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from mercato_server.contract.administration import LoadStep
from mercato_server.contract.plugin import Numbered, Offer, Offers, PluginInfo, Refusal
from mercato_server.contract.state import State
from mercato_server.control.discovery import refusal_for_names
from mercato_server.control.lifecycle import Lifecycle, seated
from mercato_server.control.loading import as_startup_error
from mercato_server.control.posts import LEAVING, Post, Seat
from mercato_server.errors import LoadFailed, LoadRefused, PluginRefused, StartupError
from mercato_server.export.request import Progress
from mercato_server.serving.catalog import Catalog, Version

Tell = Callable[[LoadStep], None]


@dataclass(frozen=True)
class Target:
    """What is asked for of the plugins: all that they have, one model, or one version of it."""

    model: str = ""
    version: int | None = None

    def has(self, model: str, version: int) -> bool:
        """Whether a version is meant, or for 0 any of a model."""
        return self.model in ("", model) and (not version or self.version in (None, version))

    @property
    def numbered(self) -> set[Numbered]:
        """The one version, where it is one."""
        return set() if self.version is None else {(self.model, self.version)}


class Reload:
    """One load, to be closed whatever comes of it. Its versions enter the catalog together, when none is on its way."""

    def __init__(
        self, catalog: Catalog, lifecycle: Lifecycle, tell: Tell, installed: Collection[PluginInfo], target: Target
    ) -> None:
        """`installed` are the plugins of the distribution as it is now."""
        self._catalog = catalog
        self._lifecycle = lifecycle
        self._roster = lifecycle.roster
        self._tell = tell
        self._target = target
        self._entry_points = {plugin.entry_point for plugin in installed}
        self._posts: dict[Post, Offers] = {}
        self._failed: dict[Version, LoadRefused] = {}
        self._metrics: dict[Version, Mapping[str, float]] = {}  # of what serves on

    async def run(self, plugins: Sequence[PluginInfo]) -> list[Version]:
        """Load what is meant of the plugins, and give the versions that were replaced, still to be unloaded.

        A version that fails and does not serve takes no other along. Raises LoadRefused where one fails that serves in
        another form, or where none is left; the catalog is as it was then.
        """
        for plugin in plugins:
            await self._stand(plugin)
        for post in self._posts:
            for seat in list(post.seats.values()):
                await self._load(post, seat)
        if self._failed and not any(post.seats for post in self._posts):
            raise next(iter(self._failed.values()))
        return await self._swap()

    async def close(self) -> None:
        """End the workers of it that do not serve."""
        await asyncio.gather(*map(self._lifecycle.retirement.undo, self._posts))

    async def _stand(self, plugin: PluginInfo) -> None:
        """Start a fresh worker, with a seat for each version that is to be loaded."""
        post = self._roster.post(plugin)
        self._posts[post] = Offers()
        try:
            offers = self._posts[post] = await post.start(self._kept(plugin) | self._target.numbered)
        except PluginRefused as error:
            raise LoadRefused(str(error), model=self._target.model, reason=error.code) from error
        wanted = [offer for offer in offers.models if self._target.has(offer.spec.name, offer.spec.version)]
        self._check(plugin, offers, wanted)
        for refusal in offers.refused:
            self._tell_refusal(refusal)
        for offer in wanted:
            if (version := self._unchanged(offer)) is not None:
                self._metrics[version] = offer.metrics
                self._tell(LoadStep(version.name, version.number, State.AVAILABLE, digest=version.digest))
            else:
                seated(post, offer)

    def _kept(self, plugin: PluginInfo) -> set[Numbered]:
        """What of a distribution a load brings up to date, tries again or brings back, whether or not it is the newest.

        What an operator unloaded stays so, unless a label means it.
        """
        own = [version for version in self._catalog.versions() if version.plugin.distribution == plugin.distribution]
        kept = {(v.name, v.number) for v in own if v.status.state not in (State.DRAINING, State.UNLOADED)}
        names = {version.name for version in own}
        return kept | {(name, number) for name in names for number in self._catalog.labels.get(name, {}).values()}

    def _check(self, plugin: PluginInfo, offers: Offers, wanted: Sequence[Offer]) -> None:
        model = self._target.model
        if not wanted:
            raise self._nothing(plugin, offers)
        if refusal := refusal_for_names(plugin, offers.models, self._staying(plugin)):
            raise LoadRefused(refusal.reason, model=model, reason=refusal.code)
        if not self._roster.is_current(plugin, offers):
            text = (
                f"the source of {plugin.distribution} changed on disk; code that runs inline is imported once: "
                "restart the server, or serve with --isolation process"
            )
            raise LoadRefused(text, model=model, reason=LoadFailed.reason)

    def _nothing(self, plugin: PluginInfo, offers: Offers) -> LoadRefused:
        """Why there is nothing to load."""
        for refusal in offers.refused:
            if self._target.has(refusal.model, refusal.version):
                return LoadRefused(refusal.reason, model=refusal.model, reason=refusal.code)
        who = f"{plugin.distribution} {plugin.version}"
        for untrained in offers.untrained:
            if self._target.has(untrained.model, 0):
                text = f"{untrained.model} of {who} is untrained; {self._training()}"
                return LoadRefused(text, model=untrained.model, reason=LoadFailed.reason)
        return LoadRefused(self._not_offered(who, offers), model=self._target.model, reason=LoadFailed.reason)

    def _training(self) -> str:
        """How a model gets a version."""
        if self._catalog.has_folders:
            return "make a version of it with `mercato train`"
        return "train it with `mercato train` and start the server with --models-dir"

    def _not_offered(self, who: str, offers: Offers) -> str:
        model, names = self._target.model, sorted({offer.spec.name for offer in offers.models})
        if model not in names:
            return f"{who} does not offer model {model!r} any more; it offers {', '.join(names) or 'none'}"
        what = f"model {model!r} version {self._target.version}"
        return f"{who} does not offer {what}: it has no model folder; bring it back, or name a version that has one"

    def _tell_refusal(self, refusal: Refusal) -> None:
        """A version that cannot be loaded takes no other along; one that serves all the same serves on."""
        is_meant = self._target.has(refusal.model, refusal.version)
        if is_meant and not self._is_serving(refusal.model, refusal.version):
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

    def _is_serving(self, name: str, number: int) -> bool:
        """Whether a version serves, or will as soon as its worker is started again."""
        old = self._old(name, number)
        return old is not None and old.status.state not in LEAVING

    async def _load(self, post: Post, seat: Seat) -> None:
        def on_progress(model: str, progress: Progress) -> None:
            facts = (progress.step, progress.done, progress.total)
            self._tell(LoadStep(model, seat.version.number, State.EXPORTING, *facts))

        try:
            await self._lifecycle.loader.load(post, seat, self._move, on_progress)
        except Exception as error:
            version = seat.version
            refused = self._refused(version, as_startup_error(error, version))
            if self._is_serving(version.name, version.number) or post.has_ended:
                raise refused from error
            self._failed[version] = refused
            del post.seats[version]

    async def _swap(self) -> list[Version]:
        """Put the new versions in the place of the old ones, in one turn of the loop; gives the old ones."""
        posts = [post for post in self._posts if post.seats]
        for post in posts:
            if post.has_ended:
                raise self._refused(next(iter(post.seats)), await post.ending())
        replaced = [self._put(seat) for post in posts for seat in post.seats.values()]
        replaced += [self._enter(version) for version in self._failed]
        for version, metrics in self._metrics.items():
            version.metrics = metrics
        for post in posts:
            self._roster.enter(post)
            self._lifecycle.supervisor.follow(post)
        self._note()
        self._posts = {post: offers for post, offers in self._posts.items() if not post.seats}
        return [version for version in replaced if version is not None]

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
        self._move(seat.version, State.AVAILABLE, seat.note)
        return self._enter(seat.version)

    def _enter(self, version: Version) -> Version | None:
        """Put a version into the catalog, and give the one whose place it takes."""
        old = self._old(version.name, version.number)
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
