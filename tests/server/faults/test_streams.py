"""PredictStream while its worker ends and while the version is swapped: the stream lives on."""

from collections.abc import Iterator

import numpy as np
import pytest
from tests.server.calls import Stream, request, tensor
from tests.server.faults.callers import INT64
from tests.server.faults.conftest import MakeSite
from tests.server.faults.plugin import HOLD, NEMESES, row
from tests.server.faults.site import VICTIM, Served, model, serving
from tests.server.gate import Gate

from mercato.v1 import prediction_pb2

EXIT = 1 + next(place for place, nemesis in enumerate(NEMESES) if nemesis.name == "exits hard")
FIRST_ID = 10**9  # apart from those of callers


@pytest.fixture
def served(make_site: MakeSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(make_site(), tmp_path_factory.mktemp("streams"), crash_budget="1000", crash_window="0.1") as running:
        yield running
        running.running.terminate()
        assert running.running.ended() == 0


def asked(number: int, command: int = 0) -> prediction_pb2.PredictRequest:
    x = np.array([row(FIRST_ID + number, command)], np.int64)
    one = request(model(VICTIM), tensor("x", INT64, x.shape, data=x.tobytes()))
    one.request_id = f"r{number}"
    return one


def test_a_worker_that_ends_costs_its_requests_and_not_the_stream(served: Served) -> None:
    stream = Stream(served.wire.channel)
    stream.send(asked(1))
    assert stream.next().WhichOneof("kind") == "ok"
    stream.send(asked(2, EXIT))
    failed = stream.next()
    assert (failed.request_id, failed.last, "its worker ended before" in failed.error.message) == ("r2", True, True)

    served.caller(VICTIM).until_answered()
    stream.send(asked(3))
    answer = stream.next()
    assert (answer.request_id, answer.WhichOneof("kind")) == ("r3", "ok")
    stream.half_close()
    assert list(stream.rest()) == []


def test_a_version_is_swapped_under_an_open_stream(served: Served) -> None:
    gate = Gate(served.site.orders / "gate")
    stream = Stream(served.wire.channel)
    stream.send(asked(1, HOLD))
    gate.reached("run")
    served.site.upgrade(VICTIM, 1, more="\n# other code, the same answers\n")
    assert served.load()
    stream.send(asked(2))
    after = stream.next()
    gate.open("run")
    before = stream.next()
    assert [item.WhichOneof("kind") for item in (after, before)] == ["ok", "ok"]
    assert (after.request_id, before.request_id) == ("r2", "r1")
    assert after.ok.model.version == before.ok.model.version
    assert after.ok.model.digest != before.ok.model.digest
    stream.half_close()
    assert list(stream.rest()) == []
    gate.remove()
