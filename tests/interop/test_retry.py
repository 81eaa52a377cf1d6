"""Shows what @grpc/grpc-js does with a retry policy and with a server's pushback."""

import json
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from grpc import StatusCode
from tests.client.fake import Failure, FakeServer
from tests.interop.languages import NODE, script

from mercato.v1 import prediction_pb2_grpc


@pytest.fixture
def scripted() -> Iterator[FakeServer]:
    """A server that fails as it is told, and counts."""
    fake, server = FakeServer(), grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    prediction_pb2_grpc.add_PredictionServiceServicer_to_server(fake, server)
    fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield fake
    server.stop(None).wait()


def full(pushback: str) -> Failure:
    return Failure(StatusCode.RESOURCE_EXHAUSTED, trailing=(("grpc-retry-pushback-ms", pushback),))


@pytest.mark.parametrize(
    ("failures", "attempts", "code"),
    [
        ([Failure(StatusCode.UNAVAILABLE)] * 2, 3, "OK"),
        ([Failure(StatusCode.UNAVAILABLE)] * 4, 3, "UNAVAILABLE"),
        ([full("1")], 2, "OK"),
        ([full("-1")], 1, "RESOURCE_EXHAUSTED"),
        ([Failure(StatusCode.INVALID_ARGUMENT)], 1, "INVALID_ARGUMENT"),
    ],
)
def test_the_policy_and_the_pushback_are_obeyed(
    scripted: FakeServer, failures: list[Failure], attempts: int, code: str
) -> None:
    scripted.failures = list(failures)
    got = json.loads(script(NODE / "retry.mjs", scripted.address))
    assert (len(scripted.requests), got["code"]) == (attempts, code)


def test_a_pushback_sets_the_time(scripted: FakeServer) -> None:
    scripted.failures = [full("700")]
    got = json.loads(script(NODE / "retry.mjs", scripted.address))
    assert got["code"] == "OK" and got["milliseconds"] >= 700
