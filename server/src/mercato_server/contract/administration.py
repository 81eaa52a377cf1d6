"""What an operator asks of a running server, as plain values: `rpc` puts it on the wire, `control` does it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mercato_server.contract.plugin import PluginInfo
from mercato_server.contract.state import State


@dataclass(frozen=True)
class LoadStep:
    """One step of a load. `step` with `done` of `total` pieces is that of an export, "" for any other state."""

    model: str
    version: int
    state: State
    step: str = ""
    done: int = 0
    total: int = 0
    digest: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Unloaded:
    """The versions that were unloaded, newest first, and the bytes of memory that they were measured to take."""

    versions: Sequence[int]
    nbytes: int


@dataclass(frozen=True)
class LoadedModel:
    """One version in a worker; `nbytes` is what it was measured to take, 0 until then."""

    model: str
    version: int
    state: State
    nbytes: int


@dataclass(frozen=True)
class WorkerFacts:
    """One worker. `started` is in Unix time, `nbytes` the resident memory of its process.

    `restarts` counts since the server started; `last_crash` says why it ended last, "" when it never did.
    """

    plugin: PluginInfo
    isolation: str
    pid: int
    started: float
    restarts: int
    last_crash: str
    nbytes: int
    models: Sequence[LoadedModel]


class Administration(Protocol):
    """The operator's door to `control`."""

    def load(self, *, model: str = "", version: int | None = None, plugin: str = "") -> AsyncIterator[LoadStep]:
        """Load a known model, one version of it, or all models of an installed distribution, beside what serves.

        A version that fails alone is told by its last step. Raises NotFound; LoadRefused when nothing can be loaded, or
        what serves cannot be in its new form, after which what served before serves on.
        """

    async def unload(self, model: str, version: int | None) -> Unloaded:
        """Drain and unload one version, or all. Raises NotFound, or LabelHolds for one that a label means."""

    def set_label(self, model: str, label: str, version: int | None) -> Mapping[str, int]:
        """Move a label to an AVAILABLE version, or take it away; gives all labels of the model.

        Raises NotFound, InvalidRequest for what is no label, LabelRefused for a version that is not AVAILABLE, or
        GateNotPassed for one whose metrics do not pass the gates.
        """

    def drain(self) -> int:
        """Begin to end the server as SIGTERM does; gives the number of requests that are still to be answered."""

    def workers(self) -> Sequence[WorkerFacts]:
        """Every worker, ordered by plugin. Any thread may ask."""
