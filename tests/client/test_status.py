"""Every status becomes the exception it stands for."""

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc import StatusCode
from tests.client.fake import Failure, FakeServer, numbers

from mercato_client import (
    Client,
    DeadlineExceeded,
    InvalidInput,
    MercatoError,
    NotFound,
    NotReady,
    Overloaded,
    PermissionDenied,
    ServerError,
    StaleSchema,
    Unavailable,
    Violation,
)
from mercato_client.status import _BY_CODE, _BY_REASON
from mercato_server import errors
from mercato_server.rpc.status import CODES

NO_RETRY = (("grpc-retry-pushback-ms", "-1"),)


def raised(client: Client, server: FakeServer, *failures: Failure) -> MercatoError:
    server.failures = list(failures)
    with pytest.raises(MercatoError) as caught:
        client.predict("pricing.linear", {"x": [[4.0]]})
    return caught.value


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", InvalidInput),
        (StatusCode.INVALID_ARGUMENT, "", InvalidInput),
        (StatusCode.OUT_OF_RANGE, "", InvalidInput),
        (StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", NotFound),
        (StatusCode.UNAVAILABLE, "MODEL_NOT_READY", NotReady),
        (StatusCode.FAILED_PRECONDITION, "MODEL_FAILED", NotReady),
        (StatusCode.FAILED_PRECONDITION, "SCHEMA_CHANGED", StaleSchema),
        (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", Overloaded),
        (StatusCode.RESOURCE_EXHAUSTED, "", Overloaded),
        (StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXPIRED", DeadlineExceeded),
        (StatusCode.UNAVAILABLE, "DRAINING", Unavailable),
        (StatusCode.UNAVAILABLE, "WORKER_CRASHED", Unavailable),
        (StatusCode.PERMISSION_DENIED, "", PermissionDenied),
        (StatusCode.UNAUTHENTICATED, "", PermissionDenied),
        (StatusCode.INTERNAL, "PLUGIN_FAULT", ServerError),
        (StatusCode.UNKNOWN, "", ServerError),
    ],
)
def test_codes_and_reasons(
    client: Client, server: FakeServer, code: StatusCode, reason: str, kind: type[MercatoError]
) -> None:
    error = raised(client, server, Failure(code, "the server's words", reason, trailing=NO_RETRY))
    assert type(error) is kind and error.message == "the server's words" and error.reason == reason
    assert len(server.requests) == 1


def test_a_call_that_the_server_does_not_know_is_its_error(client: Client, server: FakeServer) -> None:
    error = raised(client, server, Failure(StatusCode.UNIMPLEMENTED))
    assert type(error) is ServerError
    assert error.message == f"the server at {server.address} does not offer this call"


def test_a_call_that_a_stopping_server_cuts_off_is_told_as_such(client: Client, server: FakeServer) -> None:
    error = raised(client, server, Failure(StatusCode.CANCELLED, "CANCELLED"))
    assert type(error) is Unavailable
    assert error.message == f"the server at {server.address} ended the call unanswered: it may be stopping"


def test_violations_are_read(client: Client, server: FakeServer) -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="inputs.x", description="got rank 1, expected 2")
    error = raised(client, server, Failure(StatusCode.INVALID_ARGUMENT, "x", "INVALID_REQUEST", details=[bad]))
    assert isinstance(error, InvalidInput) and error.field == "inputs.x"
    assert error.violations == (Violation("inputs.x", "got rank 1, expected 2"),)


def test_a_plugin_fault_carries_its_id(client: Client, server: FakeServer) -> None:
    error = raised(client, server, Failure(StatusCode.INTERNAL, "x", "PLUGIN_FAULT", {"id": "e-17"}))
    assert isinstance(error, ServerError) and error.id == "e-17"


def test_a_stale_schema_carries_both_fingerprints(client: Client, server: FakeServer) -> None:
    facts = {"expected": "f2", "got": "f1"}
    error = raised(client, server, Failure(StatusCode.FAILED_PRECONDITION, "x", "SCHEMA_CHANGED", facts))
    assert isinstance(error, StaleSchema) and (error.expected, error.got) == ("f2", "f1")


def test_overload_is_retried_when_the_server_says(client: Client, server: FakeServer) -> None:
    full = Failure(StatusCode.RESOURCE_EXHAUSTED, "full", "OVERLOADED", trailing=(("grpc-retry-pushback-ms", "1"),))
    server.failures = [full, full]
    assert client.predict("pricing.linear", {"x": [[4.0]]})["x"].tolist() == [[4.0]]
    error = raised(client, server, full, full, full)
    assert isinstance(error, Overloaded) and error.retry_after == 0.001
    assert len(server.requests) == 6


def test_retry_info_names_the_time(client: Client, server: FakeServer) -> None:
    info = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    full = Failure(StatusCode.RESOURCE_EXHAUSTED, "full", "OVERLOADED", details=[info], trailing=NO_RETRY)
    error = raised(client, server, full)
    assert isinstance(error, Overloaded) and error.retry_after == 1.5 and len(server.requests) == 1


@pytest.mark.parametrize("value", ["-1", "soon"])
def test_a_pushback_without_a_time_means_none(client: Client, server: FakeServer, value: str) -> None:
    trailing = (("grpc-retry-pushback-ms", value),)
    error = raised(client, server, Failure(StatusCode.RESOURCE_EXHAUSTED, "full", "OVERLOADED", trailing=trailing))
    assert isinstance(error, Overloaded) and error.retry_after is None


def test_a_call_that_a_stopping_server_refuses_is_repeated(client: Client, server: FakeServer) -> None:
    server.failures = [Failure(StatusCode.UNAVAILABLE, "stopping", "DRAINING")]
    assert client.predict("pricing.linear", {"x": [[4.0]]}).request_id == "r-1"
    assert len(server.requests) == 2


def test_details_that_cannot_be_read_leave_code_and_text(client: Client, server: FakeServer) -> None:
    class Garbled(Failure):
        def _encoded(self) -> bytes:
            return b"\xff\xff\xff"

    error = raised(client, server, Garbled(StatusCode.INTERNAL, "failed"))
    assert type(error) is ServerError and error.message == "failed"


def test_foreign_error_details_are_not_taken_for_ours(client: Client, server: FakeServer) -> None:
    info = error_details_pb2.ErrorInfo(reason="OVERLOADED", domain="elsewhere.example")
    error = raised(client, server, Failure(StatusCode.INTERNAL, "failed", details=[info]))
    assert type(error) is ServerError and error.reason == ""


def test_a_message_over_the_limit_is_the_callers_mistake_and_sent_once(client: Client, server: FakeServer) -> None:
    server.offer("shop.rank", numbers("x", "UINT8"))
    with pytest.raises(InvalidInput, match=r"message too large: .*; send fewer rows per call"):
        client.predict("shop.rank", {"x": np.zeros(17 * 1024 * 1024, np.uint8)})
    assert server.requests == []


# Answers of the admin listener, which this client does not call.
ADMIN_ONLY = {errors.LoadRefused, errors.GateNotPassed, errors.LabelRefused, errors.LabelHolds}


@pytest.mark.parametrize("kind", [kind for kind in CODES if kind not in ADMIN_ONLY])
def test_every_error_of_the_server_has_its_exception(kind: type[errors.RequestError]) -> None:
    assert kind.reason in _BY_REASON
    assert CODES[kind] in _BY_CODE or CODES[kind] is StatusCode.INTERNAL
