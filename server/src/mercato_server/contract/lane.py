"""The lane: the asynchronous door to a worker, and all that `serving` knows of it."""

from typing import Protocol

from mercato_server.contract.batch import BatchResult, JoinedBatch


class Lane(Protocol):
    """Runs one batch at a time for one model version."""

    async def run(self, batch: JoinedBatch) -> BatchResult:
        """Run the batch.

        Raises PluginFault when the plugin's code or graph failed, InvalidRequest when the plugin refused
        the batch without naming rows.
        """

    async def close(self) -> None:
        """Give the model's memory back. The batch in flight, if any, is finished first."""
