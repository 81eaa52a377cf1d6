"""A worker that ends again and again: its models fail with the reason, the others serve, an operator revives it."""

import os
import signal
import time
from pathlib import Path

import grpc
from tests.server.calls import PREDICT, request
from tests.server.faults.callers import Traffic
from tests.server.faults.history import counts, unknown_errors
from tests.server.faults.plugin import ANSWERED, CRASHED, NOT_READY
from tests.server.faults.site import NEIGHBOUR, VICTIM, Site, gone, model, serving

FAILED = ("FAILED_PRECONDITION", "MODEL_FAILED")


def test_a_worker_that_spends_its_crash_budget_fails_until_it_is_loaded(site: Site, tmp_path: Path) -> None:
    with serving(site, tmp_path / "work", crash_budget="2") as served, Traffic(served.caller(NEIGHBOUR)):
        victim = served.caller(VICTIM)
        for _ in range(2):
            victim.until_answered()
            pid = served.worker().pid
            os.kill(pid, signal.SIGKILL)
            assert gone(pid)
        until = time.monotonic() + 10
        while (call := victim.call()).reason != "MODEL_FAILED":
            assert time.monotonic() < until, call
        refused = served.wire.refused(PREDICT, request(victim.model).SerializeToString())
        assert "WORKER_CRASHED" in refused.text and "ended 2 times within 60 s" in refused.text
        assert "was ended by signal SIGKILL" in refused.text and "mercato admin load" in refused.text
        assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
        assert served.wire.serving() and not served.wire.serving(victim.model)
        calls = served.history.of(victim.model)
        assert list(unknown_errors(calls, {ANSWERED, CRASHED, NOT_READY, FAILED})) == []

        served.load()
        assert victim.call().is_ok and served.wire.serving(victim.model)
        served.history.more(model(NEIGHBOUR), 5)
        assert served.violations() == []
        assert counts(served.history.of(model(NEIGHBOUR))).keys() == {ANSWERED}


def test_a_restart_whose_import_ends_spends_the_budget_too(site: Site, tmp_path: Path) -> None:
    with serving(site, tmp_path / "work", crash_budget="3") as served, Traffic(served.caller(NEIGHBOUR)):
        victim = served.caller(VICTIM)
        victim.until_answered()
        site.order(f"{VICTIM}.import", "os._exit(3)")
        os.kill(served.worker().pid, signal.SIGKILL)
        until = time.monotonic() + 20
        while (call := victim.call()).reason != "MODEL_FAILED":
            assert time.monotonic() < until, call
        site.revoke(f"{VICTIM}.import")

        served.load()
        assert victim.call().is_ok
        assert served.violations() == []
        assert counts(served.history.of(model(NEIGHBOUR))).keys() == {ANSWERED}
