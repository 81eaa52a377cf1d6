"""What a plugin can do to its process while it runs a batch: only its own model notices, and only for a moment."""

import os
import signal
from collections.abc import Iterator

import pytest
from tests.server.faults.callers import Traffic
from tests.server.faults.conftest import MakeSite
from tests.server.faults.history import counts, errors_after, unknown_errors
from tests.server.faults.plugin import ANSWERED, CRASHED, NEMESES, NOT_READY, TOOK_LONGER, Nemesis
from tests.server.faults.site import NEIGHBOUR, VICTIM, Served, gone, model, serving

# Seconds from the end of a worker to the next answer; a start takes about one.
RESTART = 10.0
SETTINGS = {"batch_timeout": "2", "crash_budget": "1000", "crash_window": "0.1", "worker_memory": str(256 * 2**20)}


@pytest.fixture(scope="module")
def served(make_site: MakeSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(make_site(), tmp_path_factory.mktemp("runs"), **SETTINGS) as running:
        with Traffic(running.caller(NEIGHBOUR)):
            yield running
        assert counts(running.history.of(model(NEIGHBOUR))).keys() == {ANSWERED}
        assert running.violations(NEIGHBOUR) == []
        running.running.terminate()
        assert running.running.ended() == 0


@pytest.mark.parametrize("nemesis", NEMESES, ids=lambda nemesis: nemesis.name)
def test_only_the_model_itself_notices(served: Served, nemesis: Nemesis) -> None:
    victim = served.caller(VICTIM)
    begun = victim.until_answered()
    before = served.worker()
    with Traffic(victim):
        served.history.more(victim.model, 5)
        struck = victim.call(NEMESES.index(nemesis) + 1)
        if nemesis.lasting:
            served.replace(VICTIM)
        calm = victim.until_answered().received
        served.history.more(victim.model, 5)
        served.history.more(model(NEIGHBOUR), 5)
    after = served.worker()

    assert (struck.code, struck.reason) in nemesis.outcomes, f"{struck}; its worker {after.last_crash}"
    assert calm - struck.received < RESTART
    calls = [call for call in served.history.of(victim.model) if call.sent >= begun.sent]
    assert list(errors_after(calls, calm)) == []
    others = [call for call in calls if call != struck]
    assert list(unknown_errors(others, {ANSWERED, CRASHED, NOT_READY, *nemesis.outcomes})) == []
    assert served.violations() == []
    assert served.running.is_silent, "standard output is the server's alone"
    if not nemesis.lasting:
        crashed = (struck.code, struck.reason) == CRASHED
        assert (after.pid != before.pid, after.restarts - before.restarts) == (crashed, int(crashed))
        assert nemesis.ended in after.last_crash


def test_a_worker_that_stands_still_for_too_long_is_replaced(served: Served) -> None:
    victim = served.caller(VICTIM)
    victim.until_answered()
    stopped = served.worker().pid
    os.kill(stopped, signal.SIGSTOP)
    struck = victim.call()
    calm = victim.until_answered()

    assert (struck.code, struck.reason) == CRASHED
    assert calm.received - struck.received < RESTART
    assert gone(stopped) and TOOK_LONGER in served.worker().last_crash
    assert served.violations() == []


def test_what_a_plugin_writes_is_in_the_log(served: Served) -> None:
    [place] = [place for place, nemesis in enumerate(NEMESES) if "standard output" in nemesis.name]
    assert served.caller(VICTIM).call(place + 1).is_ok
    assert "written raw" in served.running.log and "printed" in served.running.log
