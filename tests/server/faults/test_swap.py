"""Another version while the old one serves: what fails on its way leaves the old one alone; the swap is seamless."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from tests.server.calls import Failed, failed
from tests.server.faults.callers import Traffic
from tests.server.faults.conftest import MakeSite
from tests.server.faults.history import Spell, counts
from tests.server.faults.plugin import ANSWERED
from tests.server.faults.site import NEIGHBOUR, VICTIM, Served, gone, model, serving
from tests.server.gate import Gate

from mercato.v1 import admin_pb2, catalog_pb2

SETTINGS = {"import_timeout": "3", "load_timeout": "3"}
HANG = "threading.Event().wait()"


@pytest.fixture(scope="module")
def served(make_site: MakeSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Version 1 serves, version 2 lies on disk; callers of both plugins call all the time and never get an error."""
    with serving(make_site(), tmp_path_factory.mktemp("swap"), **SETTINGS) as running:
        running.site.upgrade(VICTIM, 2)
        with Traffic(running.caller(NEIGHBOUR)), Traffic(running.caller(VICTIM)):
            yield running
        for module in (NEIGHBOUR, VICTIM):
            assert counts(running.history.of(model(module))).keys() == {ANSWERED}
        assert running.violations(NEIGHBOUR) == []
        running.running.terminate()
        assert running.running.ended() == 0


@pytest.fixture
def gate(served: Served) -> Iterator[Gate]:
    made = Gate(served.site.orders / "gate")
    yield made
    made.remove()


@dataclass(frozen=True)
class Failing:
    """What a fresh worker does at a place, and the reason and words of the refusal."""

    name: str
    place: str
    code: str
    reason: str
    says: str


FAILING = (
    Failing("import that exits", "import", "os._exit(3)", "IMPORT_CRASHED", "ended with exit code 3"),
    Failing("import that crashes", "import", "ctypes.string_at(0)", "IMPORT_CRASHED", "ended by signal SIGSEGV"),
    Failing("import that hangs", "import", HANG, "IMPORT_TIMEOUT", "longer than 3 s"),
    Failing("import that raises", "import", "raise ValueError('none')", "IMPORT_FAILED", "ValueError: none"),
    Failing("load that exits", "load", "os._exit(3)", "LOAD_FAILED", "ended with exit code 3"),
    Failing("load that crashes", "load", "ctypes.string_at(0)", "LOAD_FAILED", "ended by signal SIGSEGV"),
    Failing("load that hangs", "load", "while True: pass", "LOAD_FAILED", "longer than 3 s"),
    Failing("load that raises", "load", "raise ValueError('none')", "LOAD_FAILED", "ValueError: none"),
    Failing("warm-up that aborts", "warm", "os.abort()", "LOAD_FAILED", "ended by signal SIGABRT"),
    Failing("warm-up that hangs", "warm", HANG, "LOAD_FAILED", "longer than 3 s"),
    Failing("warm-up that raises", "warm", "raise ValueError('none')", "LOAD_FAILED", "warm-up of faults.victim"),
)


@pytest.mark.parametrize("failing", FAILING, ids=lambda failing: failing.name)
def test_a_load_that_fails_leaves_the_old_version_alone(served: Served, failing: Failing) -> None:
    before = served.worker()
    served.site.order(f"{VICTIM}.{failing.place}", failing.code)
    try:
        refused = refusal(served)
    finally:
        served.site.revoke(f"{VICTIM}.{failing.place}")
    served.history.more(model(VICTIM), 5)

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, failing.reason), refused.text
    assert failing.says in refused.text
    assert_untouched(served, before)


def test_a_new_worker_that_is_killed_before_the_swap_leaves_the_old_version_alone(served: Served, gate: Gate) -> None:
    before = served.worker()
    served.site.order(f"{VICTIM}.warm", "stop('load')")
    try:
        with ThreadPoolExecutor(1) as pool:
            loading: Future[Any] = pool.submit(refusal, served)
            new = gate.reached("load")
            assert new != before.pid
            os.kill(new, signal.SIGKILL)
            refused = loading.result(30)
    finally:
        served.site.revoke(f"{VICTIM}.warm")
    served.history.more(model(VICTIM), 5)

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LOAD_FAILED")
    assert "was ended by signal SIGKILL" in refused.text
    assert_untouched(served, before)


def test_the_next_version_takes_over_without_an_error(served: Served) -> None:
    """Last in this file: afterwards version 2 serves."""
    old = served.worker().pid
    served.history.more(model(VICTIM), 10)
    begun = time.monotonic()
    steps = served.load()
    swapped = time.monotonic()
    served.history.more(model(VICTIM), 20)

    assert (steps[-1].version, steps[-1].state) == (2, catalog_pb2.MODEL_STATE_AVAILABLE)
    assert served.violations(spells=(Spell(1, until=swapped), Spell(2, since=begun))) == []
    calls = served.history.of(model(VICTIM))
    assert {call.version for call in calls if call.sent > swapped} == {2}
    freed = served.admin.Unload(admin_pb2.UnloadRequest(model=model(VICTIM), version=1), timeout=20)
    assert list(freed.versions) == [1] and freed.memory_bytes > 0
    assert gone(old, 10), "the process of the old version ends with it"
    served.history.more(model(VICTIM), 5)


def test_the_same_version_number_with_other_code_is_swapped_in_place(served: Served) -> None:
    served.site.upgrade(VICTIM, 2, more="# other code, same answers\n")
    old = served.worker().pid
    steps = served.load()
    swapped = time.monotonic()
    served.history.more(model(VICTIM), 10)

    assert (steps[-1].version, steps[-1].state) == (2, catalog_pb2.MODEL_STATE_AVAILABLE)
    assert gone(old, 10)
    after = [call.ids[0] for call in served.history.of(model(VICTIM)) if call.sent > swapped]
    pids = {execution.pid for execution in served.site.ran(VICTIM) if set(after) & set(execution.ids)}
    assert pids == {served.worker().pid} and old not in pids


def refusal(served: Served) -> Failed:
    """How the load of the victim ends, which must not go through."""
    with pytest.raises(grpc.RpcError) as caught:
        served.load()
    return failed(caught.value)


def assert_untouched(served: Served, before: admin_pb2.Worker) -> None:
    """The old worker runs on as if nothing had been, and the new one is gone."""
    assert served.violations() == []
    assert served.worker().pid == before.pid
    assert served.worker().restarts == before.restarts
    assert sorted(served.running.children()) == sorted(worker.pid for worker in served.workers())
