"""The workers as control keeps them: a post per worker, in which one host follows another, with a seat per version."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mercato_server.contract.administration import LoadedModel, WorkerFacts
from mercato_server.contract.artifact import Artifact
from mercato_server.contract.host import Host, ModelLane, Placement
from mercato_server.contract.plugin import Numbered, Offer, Offers, PluginInfo
from mercato_server.contract.state import State
from mercato_server.control.crashes import Clock, CrashBudget, CrashLimits
from mercato_server.control.memory import Reservation
from mercato_server.errors import LoadFailed, PluginRefused, StartupError
from mercato_server.serving.catalog import Version

log = logging.getLogger("mercato.control")

HostOf = Callable[[PluginInfo], Host]
"""From a plugin to a host of it that has not been started."""

# States in which a version has nothing in its worker, and will not have anything.
OUT = frozenset({State.FAILED, State.UNLOADED})

# Those of a version that will not serve again.
LEAVING = OUT | {State.DRAINING}

TELLING_SECONDS = 1.0
"""Longest wait for how a host that has ended did."""


class Unstarted(PluginRefused):
    """A host could not be started, and not because of its plugin: another try may succeed."""

    def __init__(self, plugin: PluginInfo, error: Exception) -> None:
        text = f"the worker of {plugin.distribution} could not be started: {type(error).__name__}"
        super().__init__("IMPORT_FAILED", f"{text}; the log has the traceback")


@dataclass(eq=False)
class Seat:
    """One version in a worker.

    `artifact` is known once there is one, `placement`, `lane` and `reservation` once it has been loaded. `note` says
    why it does not run on a faster provider, `has_fallen` that its last worker ended while it was loaded again.
    """

    version: Version
    offer: Offer
    artifact: Artifact | None = None
    placement: Placement | None = None
    lane: ModelLane | None = None
    reservation: Reservation | None = None
    note: str = ""
    has_fallen: bool = False

    @property
    def is_restartable(self) -> bool:
        """Whether it has been loaded before, so that a worker that is started again loads it."""
        return self.placement is not None and self.version.status.state in (State.AVAILABLE, State.WARMING)


@dataclass
class History:
    """What has become of the workers of one distribution since the server started."""

    restarts: int = 0
    last_crash: str = ""


class Post:
    """The place of one worker. A host that ends on its own is followed by another one in the same place."""

    def __init__(
        self, plugin: PluginInfo, host: Host, budget: CrashBudget, history: History, loading: asyncio.Lock
    ) -> None:
        self.plugin = plugin
        self.host = host
        self.budget = budget
        self.seats: dict[Version, Seat] = {}
        self.loading = loading
        self.started = 0.0
        self.history = history
        self.gone: StartupError | None = None
        self.watching: asyncio.Task[None] | None = None
        self._keys: dict[Numbered, str] = {}
        self._stands = asyncio.Event()
        self._ending: asyncio.Future[str] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def start(self, keeping: Collection[Numbered] = ()) -> Offers:
        """Start the host; what is to be kept is offered too, where it still can be.

        Raises PluginRefused: Unstarted when the plugin has no part in it.
        """
        return await self._start(keeping, alone=False)

    async def start_again(self, host: Host) -> None:
        """Start another host for what sits here and serves or is to serve. Raises as `start` does.

        Model folders that have appeared since are left alone: what is wrong with them is not to end what serves.
        """
        self.host = host
        seats = {version: seat for version, seat in self.seats.items() if version.status.state not in LEAVING}
        await self._start({numbered(seat.offer) for seat in seats.values() if seat.offer.trained}, alone=True)

    async def _start(self, keeping: Collection[Numbered], *, alone: bool) -> Offers:
        try:
            offers = await self.host.start(set(keeping), alone=alone)
        except PluginRefused:
            raise
        except Exception as error:
            name = self.plugin.distribution
            log.error("the worker of %s could not be started", name, exc_info=error, extra={"plugin": name})
            raise Unstarted(self.plugin, error) from error
        self.started = time.time()
        self._keys = {numbered(offer): offer.key for offer in offers.models}
        self._ending = asyncio.ensure_future(self.host.ended())
        self._stands.set()
        return offers

    async def standing(self) -> None:
        """Return when its host runs. Raises what ended it when there will be none any more."""
        if self.gone is None and self.has_ended:
            if self.watching is None:
                raise await self.ending()
            self._stands.clear()  # whoever watches it may not have been told yet
        await self._stands.wait()
        if self.gone is not None:
            raise self.gone

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """The turn of a load in a host that runs; nobody holds it while there is none. Raises as `standing` does."""
        while True:
            await self.standing()
            async with self.loading:
                if self.gone is None and not self.has_ended:
                    yield
                    return

    async def ended(self) -> str:
        """Return when the host has ended on its own: why, for people."""
        assert self._ending is not None, "a post is started first"
        why = await self._ending
        self.history.last_crash = why
        self._stands.clear()
        return why

    async def ending(self) -> LoadFailed:
        """What is told of a load in a host that has ended: how it did is known a moment after it has."""
        assert self._ending is not None, "a post is started first"
        await asyncio.wait([self._ending], timeout=TELLING_SECONDS)
        is_known = self._ending.done() and not self._ending.cancelled()
        why = self._ending.result() if is_known else self.history.last_crash or "has ended"
        return LoadFailed(f"the worker of {self.plugin.distribution} {why}")

    @property
    def has_ended(self) -> bool:
        """Whether the host has ended, also when nobody has been told yet."""
        return self._ending is None or self._ending.done() or not self.host.memory()

    @property
    def is_needed(self) -> bool:
        """Whether any version has something in the worker, or is going to."""
        return any(version.status.state not in OUT for version in self.seats)

    @property
    def is_wanted(self) -> bool:
        """Whether a worker that is started again would have anything to serve."""
        return any(version.status.state not in LEAVING for version in self.seats)

    def check_key(self, offer: Offer) -> None:
        """Raise LoadFailed when the host has imported other code than the offer was made of, or found other files."""
        key, distribution = self._keys.get(numbered(offer)), self.plugin.distribution
        if key is None and offer.trained is not None:
            name, number = numbered(offer)
            raise LoadFailed(
                f"the model folder of {name} version {number} is gone or damaged; bring it back and load it with "
                f"mercato admin load --plugin {distribution}, or move labels to another version"
            )
        if key != offer.key:
            load = f"load it with mercato admin load --plugin {distribution}"
            if offer.trained is not None:
                raise LoadFailed(f"the plugin or the files of the model folder changed on disk; {load}")
            raise LoadFailed(f"the plugin changed on disk; {load}, and move labels to the version that it offers now")

    def lane(self, seat: Seat, placement: Placement) -> ModelLane:
        """A lane to a version in the host of now."""
        return self.host.lane(seat.version.name, placement)

    def unwatch(self) -> None:
        """Leave it as it is when it ends."""
        if self.watching is not None:
            self.watching.cancel()

    async def close(self, why: StartupError | None = None, *, at_once: bool = False) -> None:
        """End the host for good; whoever waits for it is told why. Closing again waits for the end, or hastens it."""
        if self._closing is None:
            self.gone = why or LoadFailed(f"the worker of {self.plugin.distribution} was ended")
            self._stands.set()
            self._closing = asyncio.get_running_loop().create_task(self._close(at_once))
        elif at_once:
            await self.host.close(at_once=True)
        await asyncio.shield(self._closing)

    async def _close(self, at_once: bool) -> None:
        self.unwatch()
        if self._ending is not None:
            self._ending.cancel()
        await self.host.close(at_once=at_once)


@dataclass
class Roster:
    """All posts. `isolation` says what kind of hosts `host_of` makes; inline ones import a plugin's code only once.

    Loads of one process are measured, so they are one after the other: those of a post, or inline all.
    """

    host_of: HostOf
    isolation: str = "process"
    limits: CrashLimits = field(default_factory=CrashLimits)
    clock: Clock = field(default_factory=Clock)
    posts: list[Post] = field(default_factory=list)
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _histories: dict[str, History] = field(default_factory=dict)
    _first_sources: dict[PluginInfo, str] = field(default_factory=dict)

    def post(self, plugin: PluginInfo) -> Post:
        """A post for a plugin whose host has not been started; `enter` it when it has."""
        history = self._histories.setdefault(plugin.distribution, History())
        budget = CrashBudget(self.limits, self.clock.now)
        loading = self._loading if self.isolation == "inline" else asyncio.Lock()
        return Post(plugin, self.host_of(plugin), budget, history, loading)

    def enter(self, post: Post) -> None:
        """A worker of the server from now on."""
        self.posts.append(post)

    def seats(self) -> Iterator[tuple[Post, Seat]]:
        """Every seat with its post."""
        for post in self.posts.copy():
            for seat in post.seats.copy().values():
                yield post, seat

    def seat_of(self, version: Version) -> tuple[Post, Seat] | None:
        """Where a version sits."""
        return next(((post, seat) for post, seat in self.seats() if seat.version is version), None)

    async def leave(self, post: Post, version: Version) -> None:
        """Take a version out; the worker ends when no other needs it, and is forgotten when nobody sits there."""
        post.seats.pop(version, None)
        if not post.is_needed:
            await post.close()
        if not post.seats and post in self.posts:
            self.posts.remove(post)

    def is_current(self, plugin: PluginInfo, offers: Offers) -> bool:
        """Whether these offers are of the code that their host runs; inline that is what was imported first."""
        first = self._first_sources.setdefault(plugin, offers.source)
        return self.isolation != "inline" or first == offers.source

    def facts(self) -> list[WorkerFacts]:
        """Every worker, ordered by plugin; any thread may ask."""
        posts = sorted(self.posts.copy(), key=lambda post: post.plugin.distribution)
        return [self._facts(post) for post in posts]

    def _facts(self, post: Post) -> WorkerFacts:
        return WorkerFacts(
            plugin=post.plugin,
            isolation=self.isolation,
            pid=0 if post.gone else post.host.pid,
            started=post.started,
            restarts=post.history.restarts,
            last_crash=post.history.last_crash,
            nbytes=0 if post.gone else post.host.memory(),
            models=[_loaded(version) for version in post.seats.copy()],
        )


def numbered(offer: Offer) -> Numbered:
    """Which version of which model an offer is."""
    return offer.spec.name, offer.spec.version


def _loaded(version: Version) -> LoadedModel:
    return LoadedModel(version.name, version.number, version.status.state, version.nbytes)
