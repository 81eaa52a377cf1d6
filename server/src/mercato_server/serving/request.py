"""One accepted request on its way through the queue."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mercato_server.contract.batch import Array
from mercato_server.contract.receipt import Receipt

GroupKey = tuple[Any, ...]


class Answer(NamedTuple):
    """One request's share of a batch: its outputs, `rows` long, and the receipt."""

    outputs: Mapping[str, Array]
    receipt: Receipt


@dataclass(slots=True)
class Request:
    """A request whose inputs fit the signature.

    `inputs` have `rows` as their first axis, shared ones included. `group` is equal for requests that
    may share a batch: same parameters, same shapes. `cost` is the weight of all rows, `nbytes` the
    memory it holds. `deadline` is in seconds of the monotonic clock, `priority` 0 for the default.
    """

    inputs: Mapping[str, Array]
    rows: int
    deadline: float
    group: GroupKey = ()
    cost: int = 0
    nbytes: int = 0
    priority: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    lengths: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    present: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    truncations: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Entry:
    """A request in the queue, with the future that its caller waits on.

    `since` is in nanoseconds; `place` counts arrivals, so that what returns to the queue stands where it stood.
    """

    request: Request
    future: "asyncio.Future[Answer]"
    since: int
    alone: bool = False
    place: int = 0
