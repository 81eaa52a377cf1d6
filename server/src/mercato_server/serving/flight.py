"""One batch on its way through the lane: prepared behind another one at first, or running from the start."""

import asyncio
from collections.abc import Sequence

from mercato_server.contract.batch import JoinedBatch
from mercato_server.contract.lane import Lane
from mercato_server.contract.receipt import ReleaseReason
from mercato_server.serving.lines import Entry
from mercato_server.serving.request import Answer


class Flight:
    """The members of a batch, their weight and the lane they were handed to, with the `batch` once it was handed over.

    `began` and `ended`, in nanoseconds, are when it became the first in the lane, which holds once `is_running`, and
    when it came out.
    """

    __slots__ = (
        "_is_watched", "batch", "began", "ended", "entries", "is_recalled", "is_running", "lane", "release", "weight",
    )  # fmt: skip

    def __init__(self, entries: Sequence[Entry], lane: Lane, release: ReleaseReason) -> None:
        self.entries = entries
        self.lane = lane
        self.release = release
        self.weight = sum([entry.request.weight for entry in entries])
        self.batch: JoinedBatch | None = None
        self.is_running = self.is_recalled = self._is_watched = False
        self.began = self.ended = 0

    @property
    def level(self) -> int:
        """That of its most urgent member."""
        return min(entry.level for entry in self.entries)

    def prepare(self) -> None:
        """Watch the members while it stands behind another batch: it is recalled when one of them goes."""
        self._is_watched = True
        for entry in self.entries:
            entry.future.add_done_callback(self._gone)

    def recall(self) -> None:
        """Have it come back from behind the other batch, to be formed anew."""
        if not (self.is_recalled or self.is_running):
            self.is_recalled = True
            if self.batch is not None:
                self.lane.recall(self.batch)

    def begin(self, now: int) -> None:
        """It is the first in the lane from now on, if it was not before, and is no longer recalled."""
        if self.is_running:
            return
        self.is_running = True
        self.began = now
        self.unwatch()

    def unwatch(self) -> None:
        """Leave it in the lane whatever becomes of its members."""
        if self._is_watched:
            self._is_watched = False
            for entry in self.entries:
                entry.future.remove_done_callback(self._gone)

    def end(self, now: int) -> None:
        """The lane has let go of it."""
        self.ended = now
        self.begin(now)

    def _gone(self, _: "asyncio.Future[Answer]") -> None:
        if self._is_watched:  # what is on its way already comes after `unwatch` too
            self.recall()
