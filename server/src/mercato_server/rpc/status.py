"""The error -> status table, one place for all methods."""

import logging

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from mercato_server import errors

log = logging.getLogger("mercato.rpc")

DOMAIN = "mercato"
DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"

_NEVER = "-1"
"""Tells gRPC in the client not to send the call again by itself."""

# Bytes of UTF-8. Together they stay under the 8 KiB of trailers that callers accept, in base64 and percent-encoded.
MAX_TEXT = 768
MAX_NAME = 64
MAX_DESCRIPTION = 256
MAX_VIOLATIONS = 8

CODES: dict[type[errors.RequestError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.ModelNotReady: grpc.StatusCode.UNAVAILABLE,
    errors.ModelFailed: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SchemaChanged: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineUnreachable: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExpired: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Draining: grpc.StatusCode.UNAVAILABLE,
    errors.WorkerCrashed: grpc.StatusCode.UNAVAILABLE,
    errors.LoadRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.LabelRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.GateNotPassed: grpc.StatusCode.FAILED_PRECONDITION,
    errors.LabelHolds: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.NotAllowed: grpc.StatusCode.PERMISSION_DENIED,
    errors.PluginFault: grpc.StatusCode.INTERNAL,
}

Metadata = tuple[tuple[str, str | bytes], ...]


def to_status(error: Exception, request_id: str, model: str = "") -> tuple[grpc.StatusCode, str, Metadata]:
    """Code, text and trailing metadata of an error; whatever was not raised on purpose is INTERNAL with an id.

    An INTERNAL one is logged with the request's id and model, as far as they are known.
    """
    known, status = _known(error, request_id, model)
    metadata: list[tuple[str, str | bytes]] = [(DETAILS_KEY, status.SerializeToString())]
    if isinstance(known, errors.Overloaded):
        metadata.append((PUSHBACK_KEY, _pushback(known)))
    if isinstance(known, errors.WorkerCrashed) and known.may_have_run:
        metadata.append((PUSHBACK_KEY, _NEVER))
    if request_id:
        metadata.append(("x-request-id", request_id))
    return CODES[type(known)], status.message, tuple(metadata)


def to_message(error: Exception, request_id: str, model: str = "") -> tuple[grpc.StatusCode, status_pb2.Status]:
    """The same as a message, for errors that travel inside a stream."""
    known, status = _known(error, request_id, model)
    return CODES[type(known)], status


def _known(error: Exception, request_id: str, model: str) -> tuple[errors.RequestError, status_pb2.Status]:
    known = error if isinstance(error, errors.RequestError) else _internal()
    try:
        status = _status(known)
    except Exception as unfit:  # facts of the error that no message can hold; gRPC would tell the caller about them
        error, known = unfit, _internal()
        status = _status(known)
    if isinstance(known, errors.PluginFault):
        cause = None if known is error else error
        facts = {"request_id": request_id, "model": known.model or model, "fault": known.id}
        log.error("request failed", exc_info=cause, extra=facts)
    return known, status


def _internal() -> errors.PluginFault:
    return errors.PluginFault("internal error; the server's log has the cause", model="")


def _status(error: errors.RequestError) -> status_pb2.Status:
    """Code, text and details: ErrorInfo and what the kind of error adds."""
    code = CODES[type(error)]
    return status_pb2.Status(code=code.value[0], message=_cut(error.message, MAX_TEXT), details=_details(error))


def _details(error: errors.RequestError) -> list[AnyMessage]:
    facts = {"model": _cut(error.model, MAX_NAME)} if error.model else {}
    details: list[error_details_pb2.BadRequest | error_details_pb2.RetryInfo | error_details_pb2.ErrorInfo] = []
    match error:
        case errors.InvalidRequest():
            details.append(_bad_request(error))
        case errors.Overloaded() if error.retry_after is not None:
            delay = Duration()
            delay.FromMilliseconds(_milliseconds(error.retry_after))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        case errors.SchemaChanged():
            facts |= {"expected": error.expected, "got": _cut(error.got, MAX_NAME)}
        case errors.PluginFault():
            facts["id"] = error.id
        case _:
            pass
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=facts)
    return [_packed(message) for message in (info, *details)]


def _bad_request(error: errors.InvalidRequest) -> error_details_pb2.BadRequest:
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(
                field=_cut(v.field, 2 * MAX_NAME), description=_cut(v.description, MAX_DESCRIPTION)
            )
            for v in error.violations[:MAX_VIOLATIONS]
        ]
    )


def _cut(text: str, size: int) -> str:
    """At most `size` bytes of UTF-8, whole characters; lone surrogates, which have no UTF-8, become question marks."""
    return text.encode(errors="replace")[:size].decode(errors="ignore")


def _pushback(error: errors.Overloaded) -> str:
    return _NEVER if error.is_final or error.retry_after is None else str(_milliseconds(error.retry_after))


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _packed(
    message: error_details_pb2.BadRequest | error_details_pb2.RetryInfo | error_details_pb2.ErrorInfo,
) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
