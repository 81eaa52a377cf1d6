"""A server keeps nothing of the workers that it has loaded, unloaded and lost."""

import os
import signal
from collections.abc import Iterator

import pytest
from tests.server.faults.callers import Caller
from tests.server.faults.conftest import MakeSite
from tests.server.faults.leaks import level, slope
from tests.server.faults.site import NEIGHBOUR, VICTIM, Served, gone, model, serving

from mercato.v1 import admin_pb2

SETTINGS = {"crash_budget": "1000", "crash_window": "0.1"}
MODELS = [f"{model(VICTIM)}{more}" for more in ("", "_1", "_2", "_3")]
CYCLES, KILLS = 200, 20
# Bytes for a worker loaded and unloaded, and for one killed. The allocator takes memory in steps of its own; one of
# 2 MiB amid so few samples is this steep a line.
STEEPEST = 64 * 1024
STEEPEST_KILL = 160 * 1024


@pytest.fixture(scope="module")
def served(make_site: MakeSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    (site := make_site()).upgrade(VICTIM, 1, count=len(MODELS))
    with serving(site, tmp_path_factory.mktemp("leaks"), **SETTINGS) as running:
        yield running
        running.running.terminate()
        assert running.running.ended() == 0


def test_loading_and_unloading_leaves_nothing(served: Served) -> None:
    victim = served.caller(VICTIM)

    def cycle() -> None:
        pid = served.worker().pid
        for name in MODELS:
            served.admin.Unload(admin_pb2.UnloadRequest(model=name), timeout=60)
        served.load()
        assert gone(pid, 10) and victim.call().is_ok

    slope(served.running, cycle, 5)
    before = level(served.running, victim.call)
    grown = slope(served.running, cycle, CYCLES // len(MODELS))
    assert level(served.running, victim.call) == before
    assert grown < STEEPEST, f"{grown:.0f} bytes for {len(MODELS)} models"
    assert served.violations() == []
    assert served.caller(NEIGHBOUR).call().is_ok


def test_workers_that_are_killed_leave_nothing(served: Served) -> None:
    victim, *_ = callers = [Caller(served.wire.channel, name, served.history) for name in MODELS]

    def cycle() -> None:
        pid = served.worker().pid
        os.kill(pid, signal.SIGKILL)
        assert gone(pid, 10)
        for caller in callers:
            caller.until_answered()

    slope(served.running, cycle, 3)
    before = level(served.running, victim.call)
    grown = slope(served.running, cycle, KILLS)
    assert level(served.running, victim.call) == before
    assert grown < STEEPEST_KILL, f"{grown:.0f} bytes a kill"
    assert served.violations() == []
