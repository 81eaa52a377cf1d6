"""Loads and unloads at once and one after the other under load: callers learn that a version goes, and nothing else."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.server.faults.callers import Traffic
from tests.server.faults.conftest import MakeSite
from tests.server.faults.history import counts, errors_after, unknown_errors
from tests.server.faults.plugin import ANSWERED, DRAINING, HOLD, NOT_READY
from tests.server.faults.site import NEIGHBOUR, VICTIM, Served, model, serving
from tests.server.gate import Gate

from mercato.v1 import admin_pb2, catalog_pb2

OPERATORS, TIMES = 3, 4
AVAILABLE = catalog_pb2.MODEL_STATE_AVAILABLE


@pytest.fixture(scope="module")
def served(make_site: MakeSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(make_site(), tmp_path_factory.mktemp("storms")) as running:
        with Traffic(running.caller(NEIGHBOUR)):
            yield running
        assert counts(running.history.of(model(NEIGHBOUR))).keys() == {ANSWERED}
        assert running.violations(NEIGHBOUR) == []
        running.running.terminate()
        assert running.running.ended() == 0


def unload(served: Served) -> list[int]:
    return list(served.admin.Unload(admin_pb2.UnloadRequest(model=model(VICTIM)), timeout=60).versions)


def test_a_version_that_is_unloaded_answers_what_it_has_accepted(served: Served) -> None:
    gate = Gate(served.site.orders / "gate")
    victim = served.caller(VICTIM)
    victim.until_answered()
    held = victim.in_background(HOLD)
    gate.reached("run")
    with ThreadPoolExecutor(1) as pool:
        unloading = pool.submit(unload, served)
        while served.wire.serving(victim.model):
            pass
        refused = victim.call()
        assert not unloading.done() and not held.is_done
        gate.open("run")
        assert held.result().is_ok and unloading.result(30) == [1]
    gate.remove()

    assert (refused.code, refused.reason) == DRAINING
    call = victim.call()
    assert (call.code, call.reason) == DRAINING
    served.load()
    assert victim.call().is_ok
    assert served.violations() == []


def test_loading_a_plugin_twice_at_once_loads_it_once(served: Served) -> None:
    unload(served)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: served.load(), range(2))
    longer, shorter = sorted((one, other), key=len, reverse=True)

    assert [step.state for step in longer][-1] == AVAILABLE and len(longer) > 1
    assert [step.state for step in shorter] == [AVAILABLE]
    assert served.caller(VICTIM).call().is_ok
    assert sorted(served.running.children()) == sorted(worker.pid for worker in served.workers())


def test_storms_of_loads_and_unloads(served: Served) -> None:
    victim = served.caller(VICTIM)
    begun = victim.until_answered()

    def operate(first: int) -> None:
        for turn in range(TIMES):
            if (first + turn) % 2:
                served.load()
            else:
                unload(served)

    with Traffic(victim, 3):
        with ThreadPoolExecutor(OPERATORS) as pool:
            list(pool.map(operate, range(OPERATORS)))
        served.load()
        calm = victim.call().received
        served.history.more(victim.model, 10)

    calls = [call for call in served.history.of(victim.model) if call.sent >= begun.sent]
    assert list(unknown_errors(calls, {ANSWERED, DRAINING, NOT_READY})) == []
    assert list(errors_after(calls, calm)) == []
    assert served.violations() == []
    assert sorted(served.running.children()) == sorted(worker.pid for worker in served.workers())
