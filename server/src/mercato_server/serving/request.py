"""One accepted request, and the answer to it."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mercato_server.contract.batch import Array
from mercato_server.contract.receipt import Receipt
from mercato_server.serving.admission import Permit

GroupKey = tuple[Any, ...]
Rows = slice | npt.NDArray[np.intp]

DEFAULT_PRIORITY = 5


class Answer(NamedTuple):
    """One request's share of a batch: its outputs, `rows` long, and the receipt."""

    outputs: Mapping[str, Array]
    receipt: Receipt


@dataclass(slots=True)
class Request:
    """A request whose inputs fit the signature.

    `inputs` have `rows` as their first axis, shared ones included. `group` is equal for requests that
    may share a batch: same parameters, same shapes. `cost` is the weight of all rows, `costs` that of each where rows
    differ, `nbytes` the memory the request holds. `deadline` is in seconds of the monotonic clock; `urgency` stands in
    its place where the request waits, and is later for one that must not overtake another of its stream. `priority` is
    1 for the most urgent to 9, `caller` who is to have a fair share. `outputs` are those that are wanted, all if none,
    and `k` is how many rows are, for a model that ranks its rows. `places` are the numbers that the rows have in the
    caller's own request, where they differ from those here.
    """

    inputs: Mapping[str, Array]
    rows: int
    deadline: float
    group: GroupKey = ()
    cost: int = 0
    nbytes: int = 0
    priority: int = DEFAULT_PRIORITY
    parameters: Mapping[str, Any] = field(default_factory=dict)
    lengths: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    present: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    truncations: Mapping[str, int] = field(default_factory=dict)
    costs: npt.NDArray[np.int64] | None = None
    caller: str = ""
    urgency: float = 0.0
    outputs: tuple[str, ...] = ()
    k: int = 0
    permit: Permit | None = None
    places: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        self.urgency = max(self.urgency, self.deadline)

    @property
    def weight(self) -> int:
        """What it counts for where work is measured: its cost, or its rows where no cost is known."""
        return self.cost or self.rows

    def take(self, rows: Rows) -> "Request":
        """Some of its rows as a request of their own; what was cut on arrival stays with the whole."""
        count = len(range(*rows.indices(self.rows))) if isinstance(rows, slice) else len(rows)
        costs = None if self.costs is None else self.costs[rows]
        return replace(
            self,
            inputs={name: array[rows] for name, array in self.inputs.items()},
            rows=count,
            cost=self.cost * count // self.rows if costs is None else int(costs.sum()),
            lengths={name: array[rows] for name, array in self.lengths.items()},
            present={name: array[rows] for name, array in self.present.items()},
            truncations={},
            costs=costs,
            places=(np.arange(self.rows) if self.places is None else self.places)[rows],
        )


Submit = Callable[[Request], "asyncio.Future[Answer]"]
"""Has a request run; cancelling the future takes it back, unless it is already running."""
