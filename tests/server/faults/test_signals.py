"""A worker that is killed or stopped from outside: idle, busy, and amid traffic."""

import os
import signal
from collections.abc import Iterator

import pytest
from tests.server.faults.callers import Traffic
from tests.server.faults.conftest import MakeSite
from tests.server.faults.history import counts, errors_after, unknown_errors
from tests.server.faults.plugin import ANSWERED, CRASHED, EXPIRED, HOLD, NOT_READY, TIMED_OUT, TOO_LATE
from tests.server.faults.site import NEIGHBOUR, VICTIM, Served, gone, model, serving
from tests.server.gate import Gate

SETTINGS = {"crash_budget": "1000", "crash_window": "0.1"}


@pytest.fixture(scope="module")
def served(make_site: MakeSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(make_site(), tmp_path_factory.mktemp("signals"), **SETTINGS) as running:
        with Traffic(running.caller(NEIGHBOUR)):
            yield running
        assert counts(running.history.of(model(NEIGHBOUR))).keys() == {ANSWERED}
        assert running.violations(NEIGHBOUR) == []
        running.running.terminate()
        assert running.running.ended() == 0


@pytest.fixture
def gate(served: Served) -> Iterator[Gate]:
    made = Gate(served.site.orders / "gate")
    yield made
    made.remove()


def test_killed_while_idle(served: Served) -> None:
    victim = served.caller(VICTIM)
    begun = victim.until_answered()
    before = served.worker().pid
    os.kill(before, signal.SIGKILL)
    assert gone(before)
    calm = victim.until_answered().received
    served.history.more(model(NEIGHBOUR), 5)

    calls = [call for call in served.history.of(victim.model) if call.sent >= begun.sent]
    assert list(unknown_errors(calls, {ANSWERED, CRASHED, NOT_READY})) == []
    assert list(errors_after(calls, calm)) == []
    assert served.violations() == []
    after = served.worker()
    assert after.pid != before and after.last_crash == "was ended by signal SIGKILL"


def test_killed_while_busy_costs_what_it_had_accepted(served: Served, gate: Gate) -> None:
    victim = served.caller(VICTIM)
    begun = victim.until_answered()
    with Traffic(victim):
        served.history.more(victim.model, 5)
        held = victim.in_background(HOLD)
        busy = gate.reached("run")
        served.history.more(model(NEIGHBOUR), 20)  # by then the victim's callers wait behind the one that is held
        os.kill(busy, signal.SIGKILL)
        killed = held.result()
        calm = victim.until_answered().received
        served.history.more(victim.model, 5)

    assert (killed.code, killed.reason) == CRASHED
    calls = [call for call in served.history.of(victim.model) if call.sent >= begun.sent]
    waited = [call for call in calls if call.sent < killed.received - 0.05 and call.received >= killed.received - 0.01]
    assert len(waited) >= 3 and {(call.code, call.reason) for call in waited} == {CRASHED}
    assert list(unknown_errors(calls, {ANSWERED, CRASHED, NOT_READY})) == []
    assert list(errors_after(calls, calm)) == []
    assert served.violations() == []


def test_stopped_for_longer_than_some_callers_wait(served: Served, gate: Gate) -> None:
    """What expires meanwhile is never run; what does not is answered by the same process."""
    victim = served.caller(VICTIM)
    victim.until_answered()
    held = victim.in_background(HOLD, deadline=60)
    stopped = gate.reached("run")
    os.kill(stopped, signal.SIGSTOP)
    try:
        patient = [victim.in_background(deadline=60) for _ in range(5)]
        hasty = [victim.in_background(deadline=5) for _ in range(5)]
        expired = [pending.result() for pending in hasty]
        victim.call(deadline=0.5)  # the server knows of a deadline a moment later than its caller
        assert not any(pending.is_done for pending in (held, *patient))
    finally:
        os.kill(stopped, signal.SIGCONT)
    gate.open("run")

    assert {(call.code, call.reason) for call in expired} <= {TIMED_OUT, EXPIRED}
    assert all(pending.result().is_ok for pending in (held, *patient))
    ran = {id for execution in served.site.ran(VICTIM) for id in execution.ids}
    assert not ran & {id for call in expired for id in call.ids}
    assert served.violations() == []
    assert served.worker().pid == stopped


def test_stopped_amid_traffic(served: Served) -> None:
    victim = served.caller(VICTIM)
    begun = victim.until_answered()
    stopped = served.worker().pid
    with Traffic(victim, 4, deadline=0.5):
        served.history.more(victim.model, 20)
        os.kill(stopped, signal.SIGSTOP)
        try:
            patient = victim.call(deadline=1)
        finally:
            os.kill(stopped, signal.SIGCONT)
        calm = victim.until_answered().received
        served.history.more(victim.model, 20)

    assert (patient.code, patient.reason) in {TIMED_OUT, EXPIRED, TOO_LATE}
    calls = [call for call in served.history.of(victim.model) if call.sent >= begun.sent]
    assert list(unknown_errors(calls, {ANSWERED, TIMED_OUT, EXPIRED, TOO_LATE})) == []
    assert list(errors_after(calls, calm)) == []
    assert served.violations() == []
    assert served.worker().pid == stopped
