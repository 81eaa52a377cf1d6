"""The states of a model version, in the only legal order; a worker that is started again is the only way back."""

import enum
import time
from dataclasses import dataclass, field


class State(enum.Enum):
    """Where a model version is in its life. Each is announced after it has come true, never before."""

    DISCOVERED = "DISCOVERED"
    EXPORTING = "EXPORTING"
    LOADING = "LOADING"
    WARMING = "WARMING"
    AVAILABLE = "AVAILABLE"
    FAILED = "FAILED"
    DRAINING = "DRAINING"
    UNLOADED = "UNLOADED"


LEGAL: dict[State, frozenset[State]] = {
    State.DISCOVERED: frozenset({State.EXPORTING, State.LOADING, State.FAILED, State.UNLOADED}),
    State.EXPORTING: frozenset({State.LOADING, State.FAILED, State.UNLOADED}),
    State.LOADING: frozenset({State.WARMING, State.FAILED, State.UNLOADED}),
    State.WARMING: frozenset({State.AVAILABLE, State.LOADING, State.FAILED, State.UNLOADED}),
    State.AVAILABLE: frozenset({State.LOADING, State.DRAINING, State.FAILED}),
    State.FAILED: frozenset({State.UNLOADED}),
    State.DRAINING: frozenset({State.UNLOADED}),
    State.UNLOADED: frozenset(),
}

STARTING = frozenset({State.DISCOVERED, State.EXPORTING, State.LOADING, State.WARMING})


@dataclass(frozen=True)
class Status:
    """A state with its reason and the wall-clock second since when it holds."""

    state: State = State.DISCOVERED
    reason: str = ""
    since: float = field(default_factory=time.time)

    def to(self, state: State, reason: str = "") -> "Status":
        """The next status. Raises ValueError on a step that is not legal."""
        if state not in LEGAL[self.state]:
            raise ValueError(f"no way from {self.state.value} to {state.value}")
        return Status(state, reason)
