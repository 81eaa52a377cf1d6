"""Fault plugins on disk with a store, and servers of them: callers, operators, processes, and what must hold."""

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from tests.server.calls import Wire
from tests.server.faults.callers import Caller, History
from tests.server.faults.history import (
    Execution,
    Spell,
    crossed_rows,
    executions,
    late,
    repeated,
    unfounded,
    untimely_versions,
    wrong_answers,
)
from tests.server.faults.plugin import NEMESES, owner, reference, source
from tests.server.gate import install
from tests.server.running import PATIENCE, Running, environment

from mercato.v1 import admin_pb2, admin_pb2_grpc

VICTIM, NEIGHBOUR = "victim", "neighbour"
# Between the worker's look at the deadline and the plugin's note lies the unpacking of a batch.
SLACK = 0.25
GRACE = 1.0


class Site:
    """Plugins on disk, what they are told, and what they have written down."""

    def __init__(self, folder: Path, store: Path, modules: tuple[str, ...] = (VICTIM, NEIGHBOUR)) -> None:
        self.folder = folder
        self.store = store
        self.modules = modules
        self.orders = folder / "orders"
        self.orders.mkdir(parents=True)
        for module in modules:
            install(folder / "site", distribution(module), source(module))
        for place, nemesis in enumerate(NEMESES):
            self.order(f"run{place + 1}", nemesis.code)

    def order(self, place: str, code: str) -> None:
        """What a plugin does at a place from now on: MODULE.import, MODULE.load, MODULE.warm or runN."""
        made = self.orders / f"{place}.new"
        made.write_text(code)
        made.rename(self.orders / place)

    def revoke(self, place: str) -> None:
        (self.orders / place).unlink()

    def upgrade(self, module: str, version: int, count: int = 1, more: str = "") -> None:
        """Another version of a plugin on disk, or other code of the same."""
        code = source(module, version, count) + more
        (self.folder / "site" / f"{distribution(module).replace('-', '_')}.py").write_text(code)

    def ran(self, module: str) -> list[Execution]:
        return executions(self.orders / f"{module}.executions")

    def environment(self, **more: str) -> dict[str, str]:
        """For a server of these plugins; a rewritten source has the time and size of the old one, hence no bytecode."""
        own = {"PYTHONPATH": str(self.folder / "site"), "FAULTS": str(self.orders), "PYTHONDONTWRITEBYTECODE": "1"}
        return environment(self.folder / "home", tuple(map(distribution, self.modules)), **own, **more)


@dataclass
class Served:
    """A server of a site, while it serves."""

    site: Site
    running: Running
    wire: Wire
    admin: admin_pb2_grpc.AdminServiceStub
    history: History

    def caller(self, module: str) -> Caller:
        return Caller(self.wire.channel, model(module), self.history)

    def workers(self) -> list[admin_pb2.Worker]:
        """Every worker; one plugin has two while versions of two loads serve."""
        return list(self.admin.ListWorkers(admin_pb2.ListWorkersRequest(), timeout=20).workers)

    def worker(self, module: str = VICTIM) -> admin_pb2.Worker:
        """The only worker of a plugin."""
        [worker] = [worker for worker in self.workers() if worker.plugin.distribution == distribution(module)]
        return worker

    def replace(self, module: str) -> None:
        """Kill a plugin's worker, should it still live, so that a fresh one takes its place."""
        pid = self.worker(module).pid
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            assert gone(pid)

    def load(self, module: str = VICTIM) -> list[admin_pb2.LoadResponse]:
        """Load a plugin anew; raises what the server answers."""
        return list(self.admin.Load(admin_pb2.LoadRequest(plugin=distribution(module)), timeout=60))

    def violations(self, module: str = VICTIM, spells: tuple[Spell, ...] = (Spell(1),)) -> list[str]:
        """What must never be, whatever happened: of the whole history of one plugin."""
        calls, ran = self.history.of(model(module)), self.site.ran(module)
        return [
            *wrong_answers(calls, reference),
            *crossed_rows(calls, owner),
            *untimely_versions(calls, spells, GRACE),
            *repeated(ran),
            *unfounded(calls, ran),
            *late(calls, ran, SLACK),
        ]


@contextmanager
def serving(site: Site, folder: Path, **settings: str) -> Iterator[Served]:
    """A server from ready to whatever end the test gives it; with `settings` by their names in lower case."""
    given = {f"MERCATO_{name.upper()}": value for name, value in settings.items()}
    socket = folder / "admin" / "socket"
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    env = site.environment(**{"MERCATO_ADMIN_LISTEN": f"unix:{socket}", **given})
    running = Running(site.store, folder, env, listen=settings.get("listen", "127.0.0.1:0"))
    try:
        running.ready()
        with grpc.insecure_channel(running.address) as data, grpc.insecure_channel(f"unix:{socket}") as own:
            yield Served(site, running, Wire(data), admin_pb2_grpc.AdminServiceStub(own), History())
    finally:
        running.kill()


def distribution(module: str) -> str:
    return f"mercato-{module}"


def model(module: str) -> str:
    return f"faults.{module}"


def gone(pid: int, patience: float = PATIENCE) -> bool:
    """Wait until a process has ended; whether it has."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(descriptor) as process:
        return bool(select.select([process], [], [], patience)[0])
