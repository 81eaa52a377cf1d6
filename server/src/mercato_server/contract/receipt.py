"""The facts of one answer."""

import enum
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple


class ReleaseReason(enum.Enum):
    """Why a batch left the queue."""

    NONE = "UNSPECIFIED"
    IDLE = "IDLE"
    JOINED = "JOINED"
    FULL = "FULL"
    BISECTED = "BISECTED"
    WINDOW = "WINDOW"


class CacheOutcome(enum.Enum):
    """What a cache did for a request."""

    NONE = "UNSPECIFIED"
    HIT = "HIT"
    MISS = "MISS"
    COALESCED = "COALESCED"
    PARTIAL = "PARTIAL"


class Receipt(NamedTuple):
    """Times in nanoseconds; pre, compute and post are those of the whole batch.

    `padding` is the share of computed cells that were padding; `truncations` maps an input to the
    number of this request's rows that were cut. `started_ns` is when the batch left the queue, on the monotonic clock.
    Of `batches` in which the request's rows were run, times are sums, `queue_ns` is the longest wait and `batch_rows`
    the largest. `cached_rows` is how many of the request's rows were not run for it.
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
    batches: int = 1
    cache: CacheOutcome = CacheOutcome.NONE
    cached_rows: int = 0


def together(receipts: Sequence[Receipt]) -> Receipt:
    """The facts of several runs for one request, each batch counted once; truncations are those of the first."""
    if len(receipts) == 1:
        return receipts[0]
    batches = list({receipt.started_ns: receipt for receipt in receipts}.values())
    rows = sum(batch.batch_rows for batch in batches)
    return receipts[0]._replace(
        queue_ns=max(receipt.queue_ns for receipt in receipts),
        pre_ns=sum(batch.pre_ns for batch in batches),
        compute_ns=sum(batch.compute_ns for batch in batches),
        post_ns=sum(batch.post_ns for batch in batches),
        batch_rows=max(batch.batch_rows for batch in batches),
        padding=sum(batch.padding * batch.batch_rows for batch in batches) / rows,
        batches=sum(batch.batches for batch in batches),
    )
