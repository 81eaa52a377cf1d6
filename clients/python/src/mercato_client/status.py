"""The table that turns a gRPC status into one of the client's exceptions."""

from collections.abc import Callable, Iterable, Mapping
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
_ABSENT = "no server answers at {}; start one with `mercato serve`, or check the address"

# What gRPC's text holds when a connection cannot be made although something listens there.
_HINTS = {
    "WRONG_VERSION_NUMBER": "the server at {} speaks plain text; connect without tls",
    "CERTIFICATE_VERIFY_FAILED": "the certificate of the server at {} is not accepted: "
    "not signed by tls.ca, expired, not valid yet or not meant for servers",
    "Hostname Verification": "the certificate of the server at {} has another name; give it as tls.server_name",
    "security handshaker": "nothing was sent to {}: tls.key does not belong to tls.cert, or is damaged",
    "backend unhealthy": "no server at {} is ready: they are starting or stopping",
    "failing; last error: UNAVAILABLE": "the server at {} closes every connection: it may want TLS (tls=TLS(...), or "
    "--tls-ca), or a client certificate that it trusts (tls.cert and tls.key)",
}

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


def translate(error: Exception, address: str) -> MercatoError:
    """The exception that stands for what a gRPC call to `address` raised."""
    if not isinstance(error, grpc.RpcError):
        raised: MercatoError = InvalidInput(CLOSED)  # gRPC raises errors of its own for a call on a closed channel
    else:
        raised = _exception(_facts(error, address))
    raised.__cause__ = error
    return raised


def from_status(status: status_pb2.Status, address: str) -> MercatoError:
    """The exception that stands for an error inside a stream."""
    facts = Facts(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message, address)
    _read_details(status.details, facts)
    return _exception(facts)


def _exception(facts: Facts) -> MercatoError:
    make = _BY_REASON.get(facts.reason) or _BY_CODE.get(facts.code, _server_error)
    return make(facts)


def _facts(error: grpc.RpcError, address: str) -> Facts:
    call = cast(grpc.Call, error)
    facts = Facts(call.code(), call.details() or call.code().name.lower(), address)
    trailing = dict(call.trailing_metadata() or ())
    facts.retry_after = _pushback(trailing.get(PUSHBACK_KEY))
    _read_details(_details(trailing.get(DETAILS_KEY)), facts)
    return facts


def _details(encoded: str | bytes | None) -> Iterable[AnyMessage]:
    try:
        return status_pb2.Status.FromString(encoded).details if isinstance(encoded, bytes) else ()
    except DecodeError:
        return ()


def _pushback(value: str | bytes | None) -> float | None:
    """Seconds from the pushback header; a negative value means that a retry is useless."""
    try:
        milliseconds = int(value) if value is not None else -1
    except ValueError:
        return None
    return milliseconds / 1000 if milliseconds >= 0 else None


def _read_details(details: Iterable[AnyMessage], facts: Facts) -> None:
    """Read google.rpc details into `facts`; details that cannot be read leave the code and the text."""
    try:
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
    """Closing a channel cancels its calls; any other cancellation comes from a server that closes its connections."""
    if "Channel closed!" in facts.text:
        return InvalidInput(CLOSED)
    return Unavailable(_told(facts, f"the server at {facts.address} ended the call unanswered: it may be stopping"))


def _deadline_exceeded(facts: Facts) -> MercatoError:
    return DeadlineExceeded(_told(facts, f"no answer from {facts.address} within the timeout"), reason=facts.reason)


def _unavailable(facts: Facts) -> MercatoError:
    hint = next((hint for sign, hint in _HINTS.items() if sign in facts.text), _ABSENT)
    return Unavailable(_told(facts, hint.format(facts.address)), reason=facts.reason)


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
    "QUOTA_EXCEEDED": _overloaded,
    "DEADLINE_UNREACHABLE": _overloaded,
    "DEADLINE_EXPIRED": _deadline_exceeded,
    "DRAINING": _unavailable,
    "WORKER_CRASHED": _unavailable,
    "CANCELLED": _server_error,
    "PERMISSION_DENIED": _permission_denied,
    "PLUGIN_FAULT": _server_error,
}

_CODES = {code.value[0]: code for code in grpc.StatusCode}

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
