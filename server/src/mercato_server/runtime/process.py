"""The process host, seen from the server: it starts a worker process, waits for what it says, and ends it.

Descriptors go to it at its start; what is said afterwards goes over links. Imports neither onnxruntime nor plugins.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from mercato_plugin import SpecError
from mercato_server.contract.host import Placement
from mercato_server.contract.plugin import Numbered, Offers, PluginInfo
from mercato_server.contract.secrets import sent
from mercato_server.contract.summary import summary
from mercato_server.errors import PluginRefused
from mercato_server.runtime.link import Broken, Kind, Link, NoRoom, pair
from mercato_server.runtime.packing import pack
from mercato_server.runtime.process_lane import SLOTS, ProcessLane
from mercato_server.runtime.telling import heard
from mercato_server.store.folders import ServedFolders

log = logging.getLogger("mercato.worker")

EXIT_SECONDS = 5.0
"""Longest wait for a process that was asked to end."""

DEAF_SECONDS = 1.0
"""Longest wait for the end of a process that has closed its line."""

DUMP_SECONDS = 1.0
"""Longest wait for a process that hangs to say where."""

MAX_DUMP = 1 << 16
"""Bytes that are read of what a process wrote while it crashed."""

SERVER = version("mercato-server")
"""What this process runs, whatever is installed later."""

PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class WorkerLimits:
    """What a worker process may take: seconds for each thing it is asked, bytes of private memory (None: any).

    `shared_threads` is the size of the thread pool that its sessions share, 0 when each has its own. `log_level` and
    `log_format` are those of the server.
    """

    import_timeout: float = 60.0
    load_timeout: float = 300.0
    batch_timeout: float = 60.0
    memory: int | None = None
    shared_threads: int = 0
    log_level: str = "WARNING"
    log_format: str = "auto"


class ProcessHost:
    """One worker process. It belongs to the loop that starts it, whose thread has to live as long as the process."""

    def __init__(
        self,
        plugin: PluginInfo,
        given: Mapping[str, Any],
        limits: WorkerLimits,
        folders: ServedFolders = ServedFolders(),  # noqa: B008  frozen
    ) -> None:
        self.plugin = plugin
        self._given = given
        self._folders = folders
        self._limits = limits
        self._numbers = itertools.count(1)
        self._lanes: set[ProcessLane] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Link | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._dump = -1
        self._gone: asyncio.Future[None] | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._why = ""
        self._is_closing = False

    @property
    def pid(self) -> int:
        """The process's number; 0 before `start`."""
        return self._process.pid if self._process is not None else 0

    async def start(self, keeping: Collection[Numbered] = (), *, alone: bool = False) -> Offers:
        """Start the process and have it import the plugin.

        Raises PluginRefused: with what the plugin did wrong, or IMPORT_TIMEOUT, or IMPORT_CRASHED, also when no process
        can be started. It has ended then.
        """
        try:
            self._spawn()
            return self._offers(*await self._import(self._folders.keeping(keeping, alone=alone)))
        except (OSError, NoRoom) as error:
            await self.close(at_once=True)
            text = f"{self.plugin.distribution}: no worker can be started: {summary(error)}"
            raise PluginRefused("IMPORT_CRASHED", text) from error
        except BaseException:
            await self.close(at_once=True)
            raise

    def lane(self, model: str, placement: Placement) -> ProcessLane:
        """A lane to one of the models that `start` told of; nothing is loaded yet."""
        ours, theirs = pair()
        artifact = placement.artifact
        facts = {
            "lane": next(self._numbers),
            "slots": SLOTS,
            "model": model,
            "version": artifact.spec.version,
            "digest": artifact.digest,
            "folder": str(artifact.folder),
            "provider": placement.provider,
            "threads": placement.threads,
        }
        limits = self._limits
        lane = ProcessLane(model, ours, self, load_timeout=limits.load_timeout, batch_timeout=limits.batch_timeout)
        self._lanes.add(lane)
        with theirs, contextlib.suppress(NoRoom):  # the lane will hear that its other end has closed
            self._tell(Kind.OPEN, facts, also=[theirs.fileno()])
        return lane

    async def ended(self) -> str:
        """Return when the process has ended without having been asked to: why, for people."""
        assert self._gone is not None, "a host is started first"
        await asyncio.shield(self._gone)
        return self._why

    def memory(self) -> int:
        """Resident bytes of the process; 0 when it has ended."""
        try:
            with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * PAGE
        except (OSError, IndexError):
            return 0

    async def close(self, *, at_once: bool = False) -> None:
        """End the process, whatever it does, with what it has started; `at_once` grants it no time."""
        self._is_closing = True
        if self._waiting is None:
            return
        self._hang_up()
        await asyncio.wait([self._waiting], timeout=0 if at_once else EXIT_SECONDS)
        self._signal(signal.SIGKILL)
        await self._waiting

    def hangs(self, why: str) -> None:
        """End a process that does not answer; `why` completes "the worker ..."."""
        self._later(self._end_hanging(why))

    async def ending(self) -> str:
        """How a process ended whose lines have closed: they close a moment before its end is known."""
        if self._waiting is not None:
            await asyncio.wait([self._waiting], timeout=DEAF_SECONDS)
        return self._why or "ended"

    def forget(self, lane: ProcessLane) -> None:
        """A lane has closed."""
        self._lanes.discard(lane)

    def _spawn(self) -> None:
        """Start the process and follow it. Raises OSError; nothing is left then."""
        loop = asyncio.get_running_loop()
        self._gone = loop.create_future()
        with contextlib.ExitStack() as opened:
            ours, theirs = map(opened.enter_context, pair())
            self._dump = os.memfd_create("mercato-dump", os.MFD_CLOEXEC)
            opened.callback(os.close, self._dump)
            passed = (theirs.fileno(), self._dump)
            # Not asyncio's own: uvloop forks, and holds the loop for milliseconds where this one takes half of one.
            self._process = subprocess.Popen(  # noqa: S603  our own module
                [sys.executable, "-P", "-m", "mercato_server.runtime", str(os.getpid()), *map(str, passed)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=passed, start_new_session=True,
                env=_environment(),
            )  # fmt: skip
            exit_descriptor = _watched(self._process)
            opened.pop_all()
        theirs.close()
        self._line = Link(ours)
        ours.setblocking(False)
        loop.add_reader(ours.fileno(), self._on_line)
        self._waiting = loop.create_task(self._wait(exit_descriptor))

    async def _import(self, folders: ServedFolders) -> tuple[int, bytes]:
        limits, info = self._limits, self.plugin
        facts = {
            "server": SERVER,
            "plugin": {name: getattr(info, name) for name in ("distribution", "version", "entry_point", "module")},
            "given": sent(self._given),
            "folders": folders.to_json(),
            "memory": limits.memory,
            "shared_threads": limits.shared_threads,
            "log_level": limits.log_level,
            "log_format": limits.log_format,
        }
        assert self._waiting is not None, "it was spawned"
        self._answer = asyncio.get_running_loop().create_future()
        self._tell(Kind.START, facts)
        first: list[asyncio.Future[Any]] = [self._answer, self._waiting]
        await asyncio.wait(first, timeout=limits.import_timeout, return_when=asyncio.FIRST_COMPLETED)
        if self._answer.done():
            return self._answer.result()
        code = "IMPORT_CRASHED" if self._waiting.done() else "IMPORT_TIMEOUT"
        if code == "IMPORT_TIMEOUT":
            await self._end_hanging(f"was ended: the import took longer than {limits.import_timeout:g} s")
        raise PluginRefused(code, f"{info.distribution}: the worker {self._why} while it imported {info.module}")

    def _offers(self, kind: int, head: bytes) -> Offers:
        try:
            facts = json.loads(head)
            if kind == Kind.DONE:
                return heard(facts, self.plugin, self._given)
            refused = PluginRefused(facts["reason"], facts["message"])
        except (SpecError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            text = f"{self.plugin.distribution}: its worker told of models that are none"
            raise PluginRefused("IMPORT_FAILED", text) from error
        raise refused

    def _tell(self, kind: Kind, facts: Mapping[str, Any], also: Sequence[int] = ()) -> None:
        """Say something on the line. Raises NoRoom; that nobody hears it is told by the lane or the start."""
        if self._line is not None:
            with contextlib.suppress(OSError):
                self._line.send(kind, 0, pack(facts), also=also)

    def _on_line(self) -> None:
        """The process answers `start`, or has ended, or closed what it must not."""
        assert self._line is not None
        try:
            message = self._line.receive()
        except BlockingIOError:
            return
        except Broken as error:
            log.error("worker of %s: %s", self.plugin.distribution, error)
            message = None
        if message is not None and self._answer is not None and not self._answer.done():
            self._answer.set_result((message.kind, message.head))
            return
        self._hang_up()
        if not self._is_closing:
            self._later(self._end_deaf())

    async def _end_deaf(self) -> None:
        """The line of a process that ends closes a moment before its end is known; one that lives on cannot be told."""
        assert self._waiting is not None
        await asyncio.wait([self._waiting], timeout=DEAF_SECONDS)
        self._why = self._why or "was ended: it closed its line to the server"
        self._signal(signal.SIGKILL)

    async def _end_hanging(self, why: str) -> None:
        """It is to write down first where it hangs."""
        assert self._waiting is not None
        self._why = self._why or why
        self._signal(signal.SIGABRT)
        await asyncio.wait([self._waiting], timeout=DUMP_SECONDS)
        self._signal(signal.SIGKILL)
        await self._waiting

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _hang_up(self) -> None:
        """Close the line: a process that still reads it ends itself."""
        if self._line is not None:
            asyncio.get_running_loop().remove_reader(self._line.fileno())
            self._line.close()
            self._line = None

    async def _wait(self, exit_descriptor: int) -> None:
        """Follow the process to its end, and tell whoever waits for it."""
        code = await self._exit_code(exit_descriptor)
        self._why = self._why or _how(code)
        self._hang_up()
        for lane in list(self._lanes):
            lane.lost()
        dump = _read(self._dump)
        os.close(self._dump)
        if not self._is_closing:
            facts = {"plugin": self.plugin.distribution, **({"output": dump} if dump else {})}
            log.error("the worker of %s %s", self.plugin.distribution, self._why, extra=facts)
            assert self._gone is not None
            self._gone.set_result(None)

    async def _exit_code(self, exit_descriptor: int) -> int:
        assert self._process is not None
        loop = asyncio.get_running_loop()
        exited = asyncio.Event()
        loop.add_reader(exit_descriptor, exited.set)
        try:
            await exited.wait()
        finally:
            loop.remove_reader(exit_descriptor)
            os.close(exit_descriptor)
        self._signal(signal.SIGKILL)  # what it has started and left behind, while its number is still its own
        return self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        """To the process and to what it has started in its group, unless it has ended."""
        assert self._process is not None
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


def _watched(process: "subprocess.Popen[bytes]") -> int:
    """A descriptor that tells of the process's end. Raises OSError; the process has ended then."""
    try:
        return os.pidfd_open(process.pid)
    except OSError:
        process.kill()
        process.wait()
        raise


def _environment() -> dict[str, str]:
    """The server's own settings, other plugins' secrets among them, are nothing for a plugin."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("MERCATO_")}
    return {**kept, "ORT_DISABLE_TELEMETRY": "1"}


def _how(code: int) -> str:
    if code < 0:
        known = {int(number): number.name for number in signal.Signals}
        return f"was ended by signal {known.get(-code, -code)}"
    return f"ended with exit code {code}"


def _read(descriptor: int) -> str:
    return os.pread(descriptor, MAX_DUMP, 0).decode(errors="replace")
