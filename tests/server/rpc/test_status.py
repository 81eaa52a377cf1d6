"""The error -> status table: every error has a code, and its trailers fit into what callers accept."""

import base64
from collections.abc import Iterator
from urllib.parse import quote

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from mercato_server import errors
from mercato_server.errors import (
    DeadlineUnreachable,
    InvalidRequest,
    LoadRefused,
    Overloaded,
    RequestError,
    SchemaChanged,
    Violation,
)
from mercato_server.rpc.status import CODES, DETAILS_KEY, PUSHBACK_KEY, to_status

# What gRPC libraries accept in the headers of one message before they may refuse it.
HEADER_BYTES = 8192


def kinds(root: type[RequestError] = RequestError) -> Iterator[type[RequestError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from kinds(kind)


def example(kind: type[RequestError], text: str = "went wrong", model: str = "a.b") -> RequestError:
    if kind is InvalidRequest:
        return InvalidRequest.of("inputs.x", text, model=model)
    if kind is SchemaChanged:
        return SchemaChanged(text, model=model, expected="e" * 64, got="g" * 64)
    if issubclass(kind, Overloaded):
        return kind(text, model=model, retry_after=0.25)
    if kind is LoadRefused:
        return LoadRefused(text, model=model, reason="LOAD_FAILED")
    return kind(text, model=model)


def details(error: RequestError) -> status_pb2.Status:
    _, _, metadata = to_status(error, "r-1")
    return status_pb2.Status.FromString(dict(metadata)[DETAILS_KEY])


def header_bytes(error: RequestError) -> int:
    """The trailers as they count against a caller's limit: 32 bytes for each, binary ones in base64."""
    _, text, metadata = to_status(error, "i" * 128)
    values = [base64.b64encode(v).decode() if isinstance(v, bytes) else v for _, v in metadata]
    return sum(len(value) + 64 for value in [*values, quote(text)])


@pytest.mark.parametrize("kind", [*kinds()], ids=lambda kind: kind.__name__)
def test_every_error_has_a_code_and_its_reason(kind: type[RequestError]) -> None:
    error = example(kind)
    code, text, metadata = to_status(error, "r-1")
    status = details(error)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, status.message) == (code.value[0], text)
    reason = "LOAD_FAILED" if kind is LoadRefused else kind.reason
    assert (info.reason, info.domain, info.metadata["model"]) == (reason, "mercato", "a.b")
    assert dict(metadata)["x-request-id"] == "r-1"


def test_the_table_knows_no_other_errors() -> None:
    assert set(CODES) == set(kinds())


def test_reasons_tell_errors_apart() -> None:
    reasons = [kind.reason for kind in kinds()]
    assert len(set(reasons)) == len(reasons)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("InvalidRequest", "INVALID_ARGUMENT"), ("NotFound", "NOT_FOUND"), ("ModelNotReady", "UNAVAILABLE"),
        ("ModelFailed", "FAILED_PRECONDITION"), ("SchemaChanged", "FAILED_PRECONDITION"),
        ("Overloaded", "RESOURCE_EXHAUSTED"), ("DeadlineExpired", "DEADLINE_EXCEEDED"), ("Draining", "UNAVAILABLE"),
        ("PluginFault", "INTERNAL"),
    ],
)  # fmt: skip
def test_codes(name: str, code: str) -> None:
    assert CODES[getattr(errors, name)] is grpc.StatusCode[code]


@pytest.mark.parametrize(
    ("retry_after", "pushback"), [(0.25, "250"), (0.0, "1"), (None, "-1")], ids=["soon", "at once", "never"]
)
def test_overload_says_when_to_come_back(retry_after: float | None, pushback: str) -> None:
    error = Overloaded("full", model="a.b", retry_after=retry_after)
    assert dict(to_status(error, "")[2])[PUSHBACK_KEY] == pushback
    retries = [detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in details(error).details]
    assert any(retries) is (retry_after is not None)


def test_a_call_that_cannot_succeed_any_more_is_not_repeated_but_told_when_another_may() -> None:
    error = DeadlineUnreachable("late", model="a.b", retry_after=2.0, is_final=True)
    assert dict(to_status(error, "")[2])[PUSHBACK_KEY] == "-1"
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in details(error).details) and retry.retry_delay.seconds == 2


@pytest.mark.parametrize("letter", ["a", "界", "👟", "\n"], ids=["ascii", "chinese", "astral", "newline"])
@pytest.mark.parametrize("kind", [*kinds()], ids=lambda kind: kind.__name__)
def test_trailers_stay_within_a_callers_limit(kind: type[RequestError], letter: str) -> None:
    size = header_bytes(example(kind, letter * 10_000, letter * 10_000))
    assert size <= HEADER_BYTES


@pytest.mark.parametrize("letter", ["a", "界", "👟"], ids=["ascii", "chinese", "astral"])
def test_many_violations_stay_within_a_callers_limit(letter: str) -> None:
    error = InvalidRequest([Violation(f"inputs.{letter * 500}", letter * 500)] * 1_000, model="a.b")
    size = header_bytes(error)
    assert size <= HEADER_BYTES


def test_cut_texts_are_whole_characters() -> None:
    _, text, _ = to_status(example(errors.NotFound, "界" * 10_000), "")
    assert set(text) == {"界"}


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    error = InvalidRequest.of("inputs.x", "got \ud800 here", model="a.b")
    _, text, _ = to_status(error, "")
    assert text == "model 'a.b': inputs.x: got ? here"
    assert "got ? here" in str(details(error))


@pytest.mark.parametrize(("may_have_run", "pushback"), [(True, "-1"), (False, None)])
def test_what_may_have_ended_its_worker_is_not_sent_again_by_itself(may_have_run: bool, pushback: str | None) -> None:
    _, _, metadata = to_status(errors.WorkerCrashed("it ended", may_have_run=may_have_run), "r-1")
    assert dict(metadata).get(PUSHBACK_KEY) == pushback
