"""The inline host: a plugin's workers as threads of the serving process."""

import asyncio
import contextlib
import os
import queue
import resource
import threading
import time
import weakref
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NoReturn

from mercato_server.contract.batch import BatchResult, JoinedBatch
from mercato_server.contract.host import Loaded, Placement
from mercato_server.contract.lane import NotRun
from mercato_server.contract.plugin import Discovery, Numbered, OfferedModel, Offers, PluginInfo
from mercato_server.errors import LoadFailed, PluginRefused, WorkerCrashed
from mercato_server.plugins.daemon import in_daemon_thread
from mercato_server.runtime.worker import Worker
from mercato_server.store.offered import offers_of

CLOSE_SECONDS = 5.0
"""Longest wait for the models of a host that is closed to be let go of."""

_STATM = Path("/proc/self/statm")


class InlineLane:
    """Runs a worker's batches on a thread of its own; `load` starts it.

    `load` and `warm` may take `load_timeout` seconds each. A thread cannot be ended: one that hangs is left behind.
    """

    def __init__(self, worker: Worker, name: str, load_timeout: float = 300.0) -> None:
        self._worker = worker
        self._name = name
        self._load_timeout = load_timeout
        self._under_way: set[asyncio.Future[Any]] = set()
        self._recalled: dict[int, bool] = {}  # by the id of each batch in the lane
        self._closing: asyncio.Task[None] | None = None
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._serve, name=f"worker {name}", daemon=True)

    async def load(self) -> None:
        """Start the thread and load the model on it.

        Raises what `Worker.load` raises, and LoadFailed when the time is up.
        """
        self._thread.start()
        await self._prepared(self._worker.load, "loading")

    async def warm(self) -> Loaded:
        """Warm the model up. Raises what `Worker.warm` raises, and LoadFailed when the time is up."""
        await self._prepared(self._worker.warm, "the warm-up of")
        return Loaded(self._worker.providers, self._worker.nbytes)

    async def run(self, batch: JoinedBatch) -> BatchResult:
        """Run one batch on the worker's thread. Raises NotRun when its deadline has passed by then, or on a recall."""
        if self._closing is not None:
            text = f"model {self._name!r}: its worker ended before the request's turn came"
            raise WorkerCrashed(text, model=self._name, may_have_run=False)
        self._recalled[id(batch)] = False
        try:
            result: BatchResult = await self._call(lambda: self._in_time(batch))
            return result
        finally:
            del self._recalled[id(batch)]

    def recall(self, batch: JoinedBatch) -> None:
        """Have a batch that has not begun end with NotRun; any other is let be."""
        if id(batch) in self._recalled:
            self._recalled[id(batch)] = True

    @property
    def is_idle(self) -> bool:
        """Whether the thread has nothing to do."""
        return not self._under_way

    async def close(self) -> None:
        """Finish the batch in flight, let go of the model and end the thread: later, if it does what was given up."""
        closing = self.leave()
        if not any(future.cancelled() for future in self._under_way):
            await asyncio.shield(closing)

    def leave(self) -> asyncio.Task[None]:
        """Have the thread do all that once it comes to it."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        return self._closing

    async def _close(self) -> None:
        if self._thread.is_alive():
            closed = self._call(self._worker.close)
            self._calls.put(None)
            await closed
            await in_daemon_thread(self._thread.join)

    async def _prepared(self, function: Callable[[], None], what: str) -> None:
        try:
            async with asyncio.timeout(self._load_timeout):
                await self._call(function)
        except TimeoutError:
            text = f"{what} {self._name} took longer than {self._load_timeout:g} s (load_timeout)"
            raise LoadFailed(f"{text}; inline its thread goes on") from None

    def _in_time(self, batch: JoinedBatch) -> BatchResult:
        is_late = batch.deadline is not None and time.monotonic() >= batch.deadline
        if is_late or self._recalled.get(id(batch), False):
            raise NotRun
        return self._worker.run(batch)

    def _call(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._under_way.add(future)
        self._calls.put((function, future))
        return future

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            function, future = call
            outcome: tuple[Any, BaseException | None] = (None, None)
            try:
                if not future.cancelled():
                    outcome = (function(), None)
            except BaseException as error:  # SystemExit in a plugin must reach the caller, not end the thread
                outcome = (None, error)
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._done, future, *outcome)

    def _done(self, future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
        self._under_way.discard(future)
        _settle(future, value, error)


class InlineHost:
    """One plugin in this process. Timeouts are in seconds.

    `find` imports it and gives its models, among them the versions that it is told to keep, where they still are; those
    of model folders alone, where it is told so.
    """

    def __init__(
        self,
        plugin: PluginInfo,
        find: Callable[[Collection[Numbered], bool], Discovery],
        import_timeout: float = 60.0,
        load_timeout: float = 300.0,
    ) -> None:
        self.plugin = plugin
        self._find = find
        self._import_timeout = import_timeout
        self._load_timeout = load_timeout
        self._lanes: weakref.WeakSet[InlineLane] = weakref.WeakSet()  # each lives as long as its thread
        self._models: dict[Numbered, OfferedModel] = {}

    @property
    def pid(self) -> int:
        """This process."""
        return os.getpid()

    async def start(self, keeping: Collection[Numbered] = (), *, alone: bool = False) -> Offers:
        """Import the plugin on a thread, which goes on when the time for it is up. Raises PluginRefused."""
        try:
            async with asyncio.timeout(self._import_timeout):
                found, offers = await in_daemon_thread(self._offers, keeping, alone)
        except TimeoutError:
            text = f"{self.plugin.distribution}: importing {self.plugin.module} took longer than"
            raise PluginRefused("IMPORT_TIMEOUT", f"{text} {self._import_timeout:g} s (import_timeout)") from None
        self._models = {(offered.spec.name, offered.spec.version): offered for offered in found.models}
        return offers

    def lane(self, model: str, placement: Placement) -> InlineLane:
        """A lane to one of the models that `start` told of, on a thread of its own."""
        offered = self._models[model, placement.artifact.spec.version]
        worker = Worker(offered, placement.artifact, provider=placement.provider, threads=placement.threads)
        lane = InlineLane(worker, model, self._load_timeout)
        self._lanes.add(lane)
        return lane

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

    async def close(self, *, at_once: bool = False) -> None:
        """Let go of the plugin and its models; a thread that is busy goes on, and ends when what it does has ended."""
        self._models.clear()
        lanes = list(self._lanes)
        idle = [lane.leave() for lane in lanes if lane.is_idle]
        for lane in lanes:
            lane.leave()
        if idle and not at_once:
            await asyncio.wait(idle, timeout=CLOSE_SECONDS)

    def _offers(self, keeping: Collection[Numbered], alone: bool) -> tuple[Discovery, Offers]:
        found = self._find(keeping, alone)
        return found, offers_of(self.plugin, found)


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error if isinstance(error, Exception) else RuntimeError(f"plugin raised {error!r}"))
