"""The table that turns a gRPC status into one of the client's exceptions."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from mercato_client.errors import (
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

DOMAIN = "mercato"
DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
CLOSED = "the client is closed; open another one"


@dataclass
class Facts:
    """What a failed call tells. `reason` is empty when gRPC itself, not the server's code, ended the call."""

    code: grpc.StatusCode
    text: str
    address: str
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    retry_after: float | None = None


def to_exception(error: grpc.RpcError, address: str) -> MercatoError:
    """The exception that stands for a failed call to `address`."""
    facts = _facts(error, address)
    make = _BY_REASON.get(facts.reason) or _BY_CODE.get(facts.code, _server_error)
    return make(facts)


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Raise what a gRPC call inside raises as one of the client's exceptions."""
    try:
        yield
    except grpc.RpcError as error:
        raise to_exception(error, address) from error
    except ValueError as error:  # what gRPC raises for a call on a closed channel
        raise InvalidInput(CLOSED) from error


def _facts(error: grpc.RpcError, address: str) -> Facts:
    call = cast(grpc.Call, error)
    facts = Facts(call.code(), call.details() or call.code().name.lower(), address)
    trailing = dict(call.trailing_metadata() or ())
    facts.retry_after = _pushback(trailing.get(PUSHBACK_KEY))
    _read_details(trailing.get(DETAILS_KEY), facts)
    return facts


def _pushback(value: str | bytes | None) -> float | None:
    """Seconds from the pushback header; a negative value means that a retry is useless."""
    try:
        milliseconds = int(value) if value is not None else -1
    except ValueError:
        return None
    return milliseconds / 1000 if milliseconds >= 0 else None


def _read_details(encoded: str | bytes | None, facts: Facts) -> None:
    """Read google.rpc details into `facts`; details that cannot be read leave the code and the text."""
    try:
        details = status_pb2.Status.FromString(encoded).details if isinstance(encoded, bytes) else ()
        for detail in details:
            _read_error_info(detail, facts)
            _read_bad_request(detail, facts)
            _read_retry_info(detail, facts)
    except DecodeError:
        return


def _read_error_info(detail: AnyMessage, facts: Facts) -> None:
    info = error_details_pb2.ErrorInfo()
    if detail.Unpack(info) and info.domain == DOMAIN:
        facts.reason, facts.metadata = info.reason, dict(info.metadata)


def _read_bad_request(detail: AnyMessage, facts: Facts) -> None:
    bad = error_details_pb2.BadRequest()
    if detail.Unpack(bad):
        facts.violations = tuple(Violation(v.field, v.description) for v in bad.field_violations)


def _read_retry_info(detail: AnyMessage, facts: Facts) -> None:
    retry = error_details_pb2.RetryInfo()
    if detail.Unpack(retry):
        facts.retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9


def _invalid_input(facts: Facts) -> MercatoError:
    return InvalidInput(facts.text, violations=facts.violations, reason=facts.reason)


def _not_found(facts: Facts) -> MercatoError:
    return NotFound(facts.text, reason=facts.reason)


def _not_ready(facts: Facts) -> MercatoError:
    return NotReady(facts.text, reason=facts.reason)


def _overloaded(facts: Facts) -> MercatoError:
    return Overloaded(facts.text, retry_after=facts.retry_after, reason=facts.reason)


def _exhausted(facts: Facts) -> MercatoError:
    """A message over the limit is RESOURCE_EXHAUSTED from gRPC itself, and such a call never succeeds."""
    if "larger than max" in facts.text:
        return InvalidInput(f"message too large: {facts.text}; send fewer rows per call")
    return _overloaded(facts)


def _cancelled(facts: Facts) -> MercatoError:
    """Closing a channel cancels its calls; any other cancellation comes from the server's side."""
    return InvalidInput(CLOSED) if "Channel closed!" in facts.text else _server_error(facts)


def _deadline_exceeded(facts: Facts) -> MercatoError:
    return DeadlineExceeded(_told(facts, f"no answer from {facts.address} within the timeout"), reason=facts.reason)


def _unavailable(facts: Facts) -> MercatoError:
    absent = f"no server answers at {facts.address}; start one with `mercato serve`, or check the address"
    return Unavailable(_told(facts, absent), reason=facts.reason)


def _stale_schema(facts: Facts) -> MercatoError:
    expected, got = facts.metadata.get("expected", ""), facts.metadata.get("got", "")
    return StaleSchema(facts.text, expected=expected, got=got, reason=facts.reason)


def _permission_denied(facts: Facts) -> MercatoError:
    return PermissionDenied(facts.text, reason=facts.reason)


def _unimplemented(facts: Facts) -> MercatoError:
    return ServerError(_told(facts, f"the server at {facts.address} does not offer this call"), reason=facts.reason)


def _server_error(facts: Facts) -> MercatoError:
    return ServerError(facts.text, id=facts.metadata.get("id", ""), reason=facts.reason)


def _told(facts: Facts, otherwise: str) -> str:
    """The server's own words, or ours where gRPC itself ended the call."""
    return facts.text if facts.reason else otherwise


_BY_REASON: dict[str, Callable[[Facts], MercatoError]] = {
    "INVALID_REQUEST": _invalid_input,
    "MODEL_NOT_FOUND": _not_found,
    "MODEL_NOT_READY": _not_ready,
    "MODEL_FAILED": _not_ready,
    "SCHEMA_CHANGED": _stale_schema,
    "OVERLOADED": _overloaded,
    "DEADLINE_EXPIRED": _deadline_exceeded,
    "DRAINING": _unavailable,
    "PLUGIN_FAULT": _server_error,
}

_BY_CODE: dict[grpc.StatusCode, Callable[[Facts], MercatoError]] = {
    grpc.StatusCode.CANCELLED: _cancelled,
    grpc.StatusCode.INVALID_ARGUMENT: _invalid_input,
    grpc.StatusCode.OUT_OF_RANGE: _invalid_input,
    grpc.StatusCode.NOT_FOUND: _not_found,
    grpc.StatusCode.FAILED_PRECONDITION: _not_ready,
    grpc.StatusCode.RESOURCE_EXHAUSTED: _exhausted,
    grpc.StatusCode.DEADLINE_EXCEEDED: _deadline_exceeded,
    grpc.StatusCode.UNAVAILABLE: _unavailable,
    grpc.StatusCode.PERMISSION_DENIED: _permission_denied,
    grpc.StatusCode.UNAUTHENTICATED: _permission_denied,
    grpc.StatusCode.UNIMPLEMENTED: _unimplemented,
}
