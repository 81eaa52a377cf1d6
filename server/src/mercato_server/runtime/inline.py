"""The inline host: a worker as one thread of the serving process."""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any

from mercato_server.contract.batch import BatchResult, JoinedBatch
from mercato_server.runtime.worker import Worker


class InlineLane:
    """Runs a worker's batches on a thread of its own; `start` loads and warms it there first."""

    def __init__(self, worker: Worker, name: str) -> None:
        self._worker = worker
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._serve, name=f"worker {name}", daemon=True)

    async def load(self) -> None:
        """Start the thread and load the model on it. Raises what `Worker.load` raises."""
        self._thread.start()
        await self._call(self._worker.load)

    async def warm(self) -> None:
        """Warm the model up. Raises what `Worker.warm` raises."""
        await self._call(self._worker.warm)

    async def run(self, batch: JoinedBatch) -> BatchResult:
        """Run one batch on the worker's thread."""
        result: BatchResult = await self._call(lambda: self._worker.run(batch))
        return result

    async def close(self) -> None:
        """Finish what is queued, let go of the model and end the thread."""
        if self._thread.is_alive():
            await self._call(self._worker.close)
            self._calls.put(None)
            await asyncio.to_thread(self._thread.join)

    def _call(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._calls.put((function, future))
        return future

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            function, future = call
            try:
                outcome: tuple[Any, BaseException | None] = (function(), None)
            except BaseException as error:  # SystemExit in a plugin must reach the caller, not end the thread
                outcome = (None, error)
            self._loop.call_soon_threadsafe(_settle, future, *outcome)


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error if isinstance(error, Exception) else RuntimeError(f"plugin raised {error!r}"))
