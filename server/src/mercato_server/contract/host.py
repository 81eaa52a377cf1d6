"""A host: where one plugin's code runs. `control` opens lanes through it and cannot tell which kind it is."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from mercato_server.contract.artifact import Artifact
from mercato_server.contract.lane import Lane
from mercato_server.contract.plugin import Numbered, Offers, PluginInfo


@dataclass(frozen=True)
class Placement:
    """What a lane is opened on: a verified artifact, a provider by its short name, the cores of one run."""

    artifact: Artifact
    provider: str
    threads: int


@dataclass(frozen=True)
class Loaded:
    """What an opened model runs on, and the memory it was measured to take, in bytes.

    `providers` are short names, the one in use first.
    """

    providers: tuple[str, ...]
    nbytes: int


class ModelLane(Lane, Protocol):
    """The lane to one version, from its first load to its end."""

    async def load(self) -> None:
        """Open the sessions and call the plugin's `load`.

        Raises LoadFailed or ProviderUnavailable; LoadFailed too when the worker ends or the time for it is up.
        """

    async def warm(self) -> Loaded:
        """Run the author's examples. Raises LoadFailed, as above."""

    async def close(self) -> None:
        """Give the model's memory back. The batch in flight, if any, is finished first; closing again does nothing."""


class Host(Protocol):
    """The worker of one plugin: a process of its own, or threads of the serving process."""

    plugin: PluginInfo

    @property
    def pid(self) -> int:
        """The process it is."""

    async def start(self, keeping: Collection[Numbered] = (), *, alone: bool = False) -> Offers:
        """Import the plugin, once; the versions of `keeping` are offered too, where their model folders still are.

        With `alone` no other model folder is looked at. Raises PluginRefused, also when the import ends the process or
        does not end.
        """

    def lane(self, model: str, placement: Placement) -> ModelLane:
        """A lane to the version of a model that the artifact is of; `start` told of it. Nothing is loaded yet."""

    async def ended(self) -> str:
        """Return when the process has ended without having been told to: why, for people. Inline it never returns."""

    def memory(self) -> int:
        """Bytes of memory that the process holds; 0 when it has ended. Any thread may ask."""

    async def close(self, *, at_once: bool = False) -> None:
        """End it with its lanes, whatever they do; `at_once` grants no time. Threads that are busy are left behind."""
