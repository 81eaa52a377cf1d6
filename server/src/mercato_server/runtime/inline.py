"""The inline host: a plugin's workers as threads of the serving process."""

import asyncio
import os
import queue
import resource
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mercato_server.contract.batch import BatchResult, JoinedBatch
from mercato_server.contract.host import Loaded, Placement
from mercato_server.contract.lane import NotRun
from mercato_server.contract.plugin import Offer, OfferedModel, PluginInfo
from mercato_server.errors import PluginRefused
from mercato_server.plugins.daemon import in_daemon_thread
from mercato_server.runtime.worker import Worker
from mercato_server.store.offered import offer_of

_STATM = Path("/proc/self/statm")


class InlineLane:
    """Runs a worker's batches on a thread of its own; `load` starts it."""

    def __init__(self, worker: Worker, name: str) -> None:
        self._worker = worker
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._serve, name=f"worker {name}", daemon=True)

    async def load(self) -> None:
        """Start the thread and load the model on it. Raises what `Worker.load` raises."""
        self._thread.start()
        await self._call(self._worker.load)

    async def warm(self) -> Loaded:
        """Warm the model up. Raises what `Worker.warm` raises."""
        await self._call(self._worker.warm)
        return Loaded(self._worker.providers, self._worker.nbytes)

    async def run(self, batch: JoinedBatch) -> BatchResult:
        """Run one batch on the worker's thread. Raises NotRun when its deadline has passed by then."""
        result: BatchResult = await self._call(lambda: self._in_time(batch))
        return result

    async def close(self) -> None:
        """Finish the batch in flight, let go of the model and end the thread."""
        if self._thread.is_alive():
            await self._call(self._worker.close)
            self._calls.put(None)
            await asyncio.to_thread(self._thread.join)

    def _in_time(self, batch: JoinedBatch) -> BatchResult:
        if batch.deadline is not None and time.monotonic() >= batch.deadline:
            raise NotRun
        return self._worker.run(batch)

    def _call(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._calls.put((function, future))
        return future

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            function, future = call
            if future.cancelled():
                continue
            try:
                outcome: tuple[Any, BaseException | None] = (function(), None)
            except BaseException as error:  # SystemExit in a plugin must reach the caller, not end the thread
                outcome = (None, error)
            self._loop.call_soon_threadsafe(_settle, future, *outcome)


class InlineHost:
    """One plugin in this process. `find` imports it and gives its models; `import_timeout` is in seconds."""

    def __init__(
        self, plugin: PluginInfo, find: Callable[[], Sequence[OfferedModel]], import_timeout: float = 60.0
    ) -> None:
        self.plugin = plugin
        self._find = find
        self._import_timeout = import_timeout
        self._models: dict[str, OfferedModel] = {}

    @property
    def pid(self) -> int:
        """This process."""
        return os.getpid()

    async def start(self) -> Sequence[Offer]:
        """Import the plugin on a thread, which goes on when the time for it is up. Raises PluginRefused."""
        try:
            async with asyncio.timeout(self._import_timeout):
                found, offers = await in_daemon_thread(self._offers)
        except TimeoutError:
            text = f"{self.plugin.distribution}: importing {self.plugin.module} took longer than"
            raise PluginRefused("IMPORT_TIMEOUT", f"{text} {self._import_timeout:g} s (import_timeout)") from None
        self._models = {offered.spec.name: offered for offered in found}
        return offers

    def lane(self, model: str, placement: Placement) -> InlineLane:
        """A lane to one of the models that `start` told of, on a thread of its own."""
        offered = self._models[model]
        worker = Worker(offered, placement.artifact, provider=placement.provider, threads=placement.threads)
        return InlineLane(worker, model)

    async def ended(self) -> NoReturn:
        """Never return: it ends with this process."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody settles this future")

    def memory(self) -> int:
        """Resident bytes of this process; where the system does not tell, the most that it has had."""
        try:
            return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def close(self) -> None:
        """Let go of the plugin; a thread that hangs lives as long as the process."""
        self._models.clear()

    def _offers(self) -> tuple[Sequence[OfferedModel], list[Offer]]:
        found = self._find()
        try:
            return found, [offer_of(offered) for offered in found]
        except Exception as error:
            raise PluginRefused("SETTINGS_INVALID", f"{self.plugin.distribution}: {error}") from error


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error if isinstance(error, Exception) else RuntimeError(f"plugin raised {error!r}"))
