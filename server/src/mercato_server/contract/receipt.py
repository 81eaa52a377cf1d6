"""The facts of one answer."""

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class ReleaseReason(enum.Enum):
    """Why a batch left the queue."""

    IDLE = "IDLE"
    JOINED = "JOINED"
    FULL = "FULL"
    ALONE = "ALONE"


class Receipt(NamedTuple):
    """Times in nanoseconds; pre, compute and post are those of the whole batch.

    `padding` is the share of computed cells that were padding; `truncations` maps an input to the
    number of this request's rows that were cut. `started_ns` is when the batch left the queue, on the monotonic clock.
    """

    queue_ns: int
    pre_ns: int
    compute_ns: int
    post_ns: int
    batch_rows: int
    padding: float
    release_reason: ReleaseReason
    provider: str
    truncations: Mapping[str, int] = MappingProxyType({})
    started_ns: int = 0
