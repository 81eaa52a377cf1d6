"""The lane: the asynchronous door to a worker, and all that `serving` knows of it."""

from typing import Protocol

from mercato_server.contract.batch import BatchResult, JoinedBatch


class NotRun(Exception):
    """The batch was dropped before anything of it ran: late when its turn came, or recalled."""


class Lane(Protocol):
    """Runs batches of one model version in the order in which they were given; any number of fronts may share one.

    Two batches of a front may be in it at a time: one runs, one is prepared.
    """

    async def run(self, batch: JoinedBatch) -> BatchResult:
        """Run the batch. Cancelling takes it out, unless it has started.

        Raises PluginFault when the plugin's code or graph failed, InvalidRequest when the plugin refused
        the batch without naming rows, NotRun when it was dropped first, WorkerCrashed when its worker ended.
        """

    def recall(self, batch: JoinedBatch) -> None:
        """Have a batch that has not begun end with NotRun; one that has begun runs on."""
