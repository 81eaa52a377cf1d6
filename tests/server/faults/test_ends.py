"""How a server ends under load, once asked, twice asked, and killed: what callers get, and what is left behind."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.faults.callers import Traffic
from tests.server.faults.history import counts
from tests.server.faults.plugin import ANSWERED, DRAINING, HOLD, NEMESES, UNREACHABLE
from tests.server.faults.site import NEIGHBOUR, VICTIM, Served, Site, gone, model, serving
from tests.server.gate import Gate

from mercato.v1 import admin_pb2

AT_ONCE = 10.0
# What arrives in the moment in which gRPC's core closes the connections; nothing of it is run.
CUT = ("CANCELLED", "")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - looked at, never written to


@pytest.fixture
def gate(site: Site) -> Iterator[Gate]:
    made = Gate(site.orders / "gate")
    yield made
    made.remove()


def test_asked_once_nothing_accepted_is_lost(site: Site, gate: Gate, tmp_path: Path) -> None:
    with serving(site, tmp_path / "work") as served:
        workers = [worker.pid for worker in served.workers()]
        victim = served.caller(VICTIM)
        with Traffic(victim, 4), Traffic(served.caller(NEIGHBOUR), 4):
            served.history.more(victim.model, 20)
            held = victim.in_background(HOLD)
            gate.reached("run")
            served.running.terminate()
            while served.caller(NEIGHBOUR).call().is_ok:
                pass
            assert not held.is_done
            gate.open("run")
            assert held.result().is_ok
            assert served.running.ended() == 0

        for module in (VICTIM, NEIGHBOUR):
            calls = served.history.of(model(module))
            assert counts(calls).keys() <= {ANSWERED, DRAINING, UNREACHABLE, CUT}
            assert served.violations(module) == []
            answered = {id for call in calls if call.is_ok for id in call.ids}
            ran = {id for execution in served.site.ran(module) for id in execution.ids}
            assert ran == answered, "what was run was not answered"
        assert all(map(gone, workers))


def test_asked_twice_it_gives_up_what_is_in_flight(site: Site, gate: Gate, tmp_path: Path) -> None:
    with serving(site, tmp_path / "work", drain_seconds="600") as served:
        workers = [worker.pid for worker in served.workers()]
        victim = served.caller(VICTIM)
        with Traffic(victim, 4), Traffic(served.caller(NEIGHBOUR), 4):
            served.history.more(victim.model, 20)
            held = victim.in_background(HOLD, deadline=60)
            gate.reached("run")
            served.running.terminate()
            while served.caller(NEIGHBOUR).call().is_ok:
                pass
            assert not held.is_done
            served.running.terminate()
            given_up = held.result(AT_ONCE)
            assert served.running.process.wait(AT_ONCE) == 0

        assert (given_up.code, given_up.reason) == DRAINING
        for module in (VICTIM, NEIGHBOUR):
            assert counts(served.history.of(model(module))).keys() <= {ANSWERED, DRAINING, UNREACHABLE, CUT}
            assert served.violations(module) == []
        assert all(gone(pid, AT_ONCE) for pid in workers)
        assert memory_of(served) == []


def test_a_drain_and_then_a_signal_still_answer_what_was_accepted(site: Site, gate: Gate, tmp_path: Path) -> None:
    with serving(site, tmp_path / "work") as served:
        held = served.caller(VICTIM).in_background(HOLD)
        gate.reached("run")
        assert served.admin.Drain(admin_pb2.DrainRequest(), timeout=20).requests == 1
        while served.caller(NEIGHBOUR).call().is_ok:
            pass
        served.running.terminate()
        with pytest.raises(subprocess.TimeoutExpired):  # it still waits for the one that is held
            served.running.process.wait(0.5)
        gate.open("run")
        assert held.result().is_ok
        assert served.running.ended() == 0


def test_a_stopped_idle_worker_does_not_keep_the_server_from_ending(site: Site, tmp_path: Path) -> None:
    with serving(site, tmp_path / "work") as served:
        assert served.caller(VICTIM).call().is_ok
        workers = [worker.pid for worker in served.workers()]
        os.kill(served.worker().pid, signal.SIGSTOP)
        served.running.terminate()
        assert served.running.process.wait(30) == 0
        assert all(gone(pid, AT_ONCE) for pid in workers)
        assert memory_of(served) == []


def test_killed_it_leaves_nothing_behind_and_the_next_one_starts(site: Site, tmp_path: Path) -> None:
    shared = sorted(SHARED_MEMORY.iterdir())
    loop = 1 + next(place for place, nemesis in enumerate(NEMESES) if nemesis.name == "endless loop")
    with serving(site, tmp_path / "work") as served:
        workers = [worker.pid for worker in served.workers()]
        victim = served.caller(VICTIM)
        with Traffic(served.caller(NEIGHBOUR)), Traffic(victim):
            served.history.more(victim.model, 20)
            busy = victim.in_background(loop)
            before = len(site.ran(VICTIM))
            while len(site.ran(VICTIM)) == before:
                served.history.more(model(NEIGHBOUR), 1)
            address = served.running.address
            assert memory_of(served), "tensors travel in shared memory"
            served.running.kill()
            assert (busy.result().code, busy.result().reason) == UNREACHABLE
            assert all(gone(pid, AT_ONCE) for pid in workers)
        assert memory_of(served) == []
        assert sorted(SHARED_MEMORY.iterdir()) == shared
        host, _, port = address.rpartition(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), 5)

    with serving(site, tmp_path / "work", listen=address) as again:
        assert again.running.address == address
        assert again.caller(VICTIM).call().is_ok and again.caller(NEIGHBOUR).call().is_ok
        assert again.violations() == []
        again.running.terminate()
        assert again.running.ended() == 0


def memory_of(served: Served) -> list[str]:
    """Anonymous shared memory of the server and of whatever process has inherited its environment."""
    mark = f"FAULTS={served.site.orders}".encode()
    return [path for process in Path("/proc").glob("[0-9]*") for path in open_memory(process, mark)]


def open_memory(process: Path, mark: bytes) -> list[str]:
    try:
        if mark not in (process / "environ").read_bytes().split(b"\0"):
            return []
        links = [os.readlink(path) for path in (process / "fd").iterdir()]
        maps = (process / "maps").read_text().splitlines()
    except OSError:  # it has ended meanwhile, or is somebody else's
        return []
    return [text for text in (*links, *maps) if "memfd:" in text]
