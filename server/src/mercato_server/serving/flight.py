"""One batch on its way through the lane: prepared behind another one at first, or running from the start."""

import asyncio
from collections.abc import Sequence

from mercato_server.contract.lane import Lane
from mercato_server.contract.receipt import ReleaseReason
from mercato_server.serving.request import Answer, Entry


class Flight:
    """The members of a batch, the lane they were handed to and the task that waits for it there.

    `began` and `ended`, in nanoseconds, are when it became the first in the lane, which holds once `is_running`, and
    when it came out.
    """

    __slots__ = ("_left", "began", "ended", "entries", "is_dropped", "is_running", "lane", "release", "task")

    def __init__(
        self, entries: Sequence[Entry], lane: Lane, release: ReleaseReason, task: "asyncio.Task[None]"
    ) -> None:
        self.entries = entries
        self.lane = lane
        self.release = release
        self.task = task
        self.is_running = self.is_dropped = False
        self.began = self.ended = self._left = 0

    def prepare(self) -> None:
        """Watch the members while it stands behind another batch: when all have gone it is taken out of the lane."""
        self._left = len(self.entries)
        for entry in self.entries:
            entry.future.add_done_callback(self._gone)

    def begin(self, now: int) -> None:
        """It is the first in the lane from now on, if it was not before, and is no longer taken out."""
        if self.is_running:
            return
        self.is_running = True
        self.began = now
        self.unwatch()

    def unwatch(self) -> None:
        """Leave it in the lane whatever becomes of its members."""
        if self._left:
            self._left = 0  # what is on its way to `_gone` already counts from here and never comes to 0
            for entry in self.entries:
                entry.future.remove_done_callback(self._gone)

    def end(self, now: int) -> None:
        """The lane has let go of it."""
        self.ended = now
        if not self.is_running:
            self.begin(now)
        if self.is_dropped:
            self.task.uncancel()  # the task lives on, whether or not the lane heeded its cancellation

    def _gone(self, _: "asyncio.Future[Answer]") -> None:
        self._left -= 1
        if not self._left:
            self.is_dropped = True
            self.task.cancel()
