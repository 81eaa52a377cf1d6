"""The outermost guard of every method: builds the Call, and is the single place where an error becomes a status."""

# grpc's classes are generic in their stubs only, so annotations must stay unevaluated.
from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio

from mercato_server.contract.call import Call
from mercato_server.errors import InvalidRequest, PluginFault, RequestError
from mercato_server.rpc import request_id
from mercato_server.rpc.status import to_status

log = logging.getLogger("mercato.rpc")

Handler = Callable[[Call], Awaitable[bytes]]
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# Stands for bytes that do not parse. Not the error itself: one that is raised again and again gathers the
# frames of every call that met it.
MALFORMED = object()


class Guard:
    """Wraps handlers. `default_deadline` in seconds holds for callers that set none."""

    def __init__(self, default_deadline: float) -> None:
        self._default_deadline = default_deadline

    def unary(self, handler: Handler) -> grpc.RpcMethodHandler[Any, Any]:
        """One of our own methods: bytes in, bytes out; parsing happens in the handler, under this guard."""

        async def guarded(request: bytes, context: Context) -> bytes:
            call = self._call(request, context)
            try:
                return await handler(call)
            except Exception as error:
                await _abort(context, error, call.request_id or _id_of_refused(call))

        return grpc.unary_unary_rpc_method_handler(guarded)

    def _call(self, request: bytes, context: Context) -> Call:
        remaining: float | None = context.time_remaining()
        deadline = time.monotonic() + (self._default_deadline if remaining is None else remaining)
        metadata = {key: str(value) for key, value in context.invocation_metadata() or () if key == "x-request-id"}
        return Call(request, metadata, deadline, bounded=remaining is not None)


def library_handler(handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
    """A method of health or reflection under the same rules: bytes that do not parse are the caller's mistake."""
    parse = _captured(handler.request_deserializer)
    serializer = handler.response_serializer
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(_guarded_unary(handler.unary_unary), parse, serializer)
    if handler.unary_stream:
        return grpc.unary_stream_rpc_method_handler(_guarded_unary(handler.unary_stream), parse, serializer)
    return grpc.stream_stream_rpc_method_handler(_guarded_stream(handler.stream_stream), parse, serializer)


def _captured(parse: Any) -> Callable[[bytes], Any]:
    def capture(data: bytes) -> Any:
        try:
            return parse(data)
        except Exception:
            return MALFORMED

    return capture


def _guarded_unary(behaviour: Any) -> Any:
    async def guarded(request: Any, context: Context) -> Any:
        try:
            if request is MALFORMED:
                raise _malformed()
            return await behaviour(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await _abort(context, error, "")

    return guarded


def _guarded_stream(behaviour: Any) -> Any:
    async def guarded(requests: AsyncIterable[Any], context: Context) -> AsyncIterator[Any]:
        try:
            async for answer in behaviour(_refusing(requests), context):
                yield answer
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await _abort(context, error, "")

    return guarded


async def _refusing(requests: AsyncIterable[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        if request is MALFORMED:
            raise _malformed()
        yield request


def _malformed() -> InvalidRequest:
    return InvalidRequest.of("request", "the bytes are not a valid message of this method")


def _id_of_refused(call: Call) -> str:
    """For a call that failed before its request was read."""
    given = call.metadata.get("x-request-id", "")
    return given if request_id.is_usable(given) else request_id.settled("")


async def _abort(context: Context, error: Exception, call_id: str) -> NoReturn:
    """End the call with the error's status; anything we did not raise on purpose becomes INTERNAL with an id."""
    try:
        status = to_status(error if isinstance(error, RequestError) else _internal(error), call_id)
    except Exception as unfit:  # facts of the error that no message can hold; gRPC would tell the caller about them
        status = to_status(_internal(unfit), call_id)
    await context.abort(*status)


def _internal(error: Exception) -> PluginFault:
    fault = PluginFault("internal error; the server's log has the cause", model="")
    log.error("internal error, id %s", fault.id, exc_info=error)
    return fault
