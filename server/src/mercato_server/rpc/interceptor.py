"""The outermost guard of every method: builds the Call, and is the single place where an error becomes a status."""

# grpc's classes are generic in their stubs only, so annotations must stay unevaluated.
from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from functools import lru_cache, partial
from typing import Any, NoReturn, TypeAlias, TypeVar
from urllib.parse import unquote

import grpc
import grpc.aio

from mercato_server.contract.call import Call, StreamCall
from mercato_server.errors import DeadlineExpired, Draining, InvalidRequest
from mercato_server.rpc import request_id
from mercato_server.rpc.access import Access
from mercato_server.rpc.observation import Observation
from mercato_server.rpc.status import to_status

Handler = Callable[[Call], Awaitable[bytes]]
Send = Callable[[bytes], Awaitable[None]]
TellingHandler = Callable[[Call, Send], Awaitable[None]]
StreamHandler = Callable[[StreamCall], Awaitable[None]]
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Admit = Callable[[Context], None]
Answer = TypeVar("Answer")
PrincipalsOf = Callable[[Context], tuple[str, ...]]

# Of the caller's metadata, what handlers may see.
READ = frozenset({"x-request-id", "traceparent", "tracestate"})

# Stands for bytes that do not parse. Not the error itself: one that is raised again and again gathers the
# frames of every call that met it.
MALFORMED = object()


def nobody(context: Context) -> tuple[str, ...]:
    """The principals where callers show no certificate."""
    return ()


@lru_cache(maxsize=4096)
def host_of(peer: str) -> str:
    """The host of a peer as gRPC names it: one that opens many connections is still one caller."""
    kind, _, rest = peer.partition(":")
    return unquote(rest.rpartition(":")[0]).strip("[]") if kind in ("ipv4", "ipv6") else peer


class Guard:
    """Wraps handlers. `default_deadline` in seconds holds for callers that set none."""

    def __init__(
        self, default_deadline: float, access: Access, observation: Observation, principals_of: PrincipalsOf = nobody
    ) -> None:
        self._default_deadline = default_deadline
        self._access = access
        self._observation = observation
        self._principals_of = principals_of

    def unary(self, method: str, handler: Handler) -> grpc.RpcMethodHandler[Any, Any]:
        """One of our own methods: bytes in, bytes out; parsing happens in the handler, under this guard."""

        async def guarded(request: bytes | None, context: Context) -> bytes:
            call = self._call(method, request or b"", context)
            return await self._answered(call, context, request is not None, partial(handler, call))

        return grpc.stream_unary_rpc_method_handler(self._reading(guarded))

    def telling(self, method: str, handler: TellingHandler) -> grpc.RpcMethodHandler[Any, Any]:
        """One of our own methods that answers one request with many messages; the same on the wire as a stream."""

        async def guarded(request: bytes | None, context: Context) -> None:
            call = self._call(method, request or b"", context)
            await self._answered(call, context, request is not None, partial(handler, call, _sender(context)))

        return grpc.stream_stream_rpc_method_handler(self._reading(guarded))

    def stream(self, method: str, handler: StreamHandler) -> grpc.RpcMethodHandler[Any, Any]:
        """A bidirectional method of our own; the handler observes what happens inside the stream."""

        async def guarded(requests: object, context: Context) -> None:
            async def read() -> bytes | None:
                message: bytes | None = await _next_message(context)
                return message

            call = self._call(method, b"", context)
            try:
                self._access.check_method(call)
                await handler(StreamCall(call, read, _sender(context)))
            except Exception as error:
                call.request_id = _id_of_refused(call)
                status = to_status(error, call.request_id)
                if not isinstance(error, Draining):  # it refused nothing: every open stream ends so with the server
                    self._observation.begin(call)
                    self._observation.end(call, status[0].name)
                await context.abort(*status)

        return grpc.stream_stream_rpc_method_handler(guarded)

    def library(
        self, method: str, handler: grpc.RpcMethodHandler[Any, Any], *, is_open: bool = False
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """A method of health or reflection under the same rules; an open one needs no row of the access table."""

        def admit(context: Context) -> None:
            if not is_open:
                self._access.check_method(self._call(method, b"", context))

        parse, serialize = _captured(handler.request_deserializer), handler.response_serializer
        if handler.unary_unary:
            behaviour = _guarded_unary(admit, handler.unary_unary)
            return grpc.stream_unary_rpc_method_handler(self._reading(behaviour), parse, serialize)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(_guarded_unary(admit, handler.unary_stream), parse, serialize)
        return grpc.stream_stream_rpc_method_handler(_guarded_stream(admit, handler.stream_stream), parse, serialize)

    async def _answered(
        self, call: Call, context: Context, is_whole: bool, run: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """What `run` gives, observed; what it raises ends the call with a status."""
        self._observation.begin(call)
        try:
            self._access.check_method(call)
            if not is_whole:
                raise _no_message()
            answer = await run()
        except asyncio.CancelledError:
            self._observation.end(call, _why_cancelled(call))
            raise
        except Exception as error:
            call.request_id = call.request_id or _id_of_refused(call)
            status = to_status(error, call.request_id, call.model)
            # Before the caller learns of it, so that what is recorded is there once there is an answer.
            self._observation.end(call, status[0].name)
            await context.abort(*status)
        self._observation.end(call, "OK")
        return answer

    def _reading(self, behaviour: Any) -> Any:
        """Read as a stream: grpc.aio never answers a unary call that ends before its message does.

        A message that does not come whole is waited for until the caller's own deadline, else for the default.
        """

        async def reading(requests: object, context: Context) -> Any:
            if context.time_remaining() is not None:
                return await behaviour(await _next_message(context), context)
            try:
                async with asyncio.timeout(self._default_deadline):
                    message = await _next_message(context)
            except TimeoutError:
                text = f"the message was not whole after {self._default_deadline:g} s, nothing was run"
                await _abort(context, DeadlineExpired(text), "")
            return await behaviour(message, context)

        return reading

    def _call(self, method: str, request: bytes, context: Context) -> Call:
        remaining: float | None = context.time_remaining()
        now = time.monotonic()
        return Call(
            method,
            request,
            metadata={key: str(value) for key, value in context.invocation_metadata() or () if key in READ},
            started=now,
            deadline=now + (self._default_deadline if remaining is None else remaining),
            bounded=remaining is not None,
            principals=(principals := self._principals_of(context)),
            caller=principals[0] if principals else host_of(context.peer()),
            nbytes=len(request),
        )


def _captured(parse: Any) -> Callable[[bytes], Any]:
    def capture(data: bytes) -> Any:
        try:
            return parse(data)
        except Exception:
            return MALFORMED

    return capture


def _guarded_unary(admit: Admit, behaviour: Any) -> Any:
    async def guarded(request: Any, context: Context) -> Any:
        try:
            admit(context)
            if request is None:
                raise _no_message()
            if request is MALFORMED:
                raise _malformed()
            return await behaviour(request, context)
        except (grpc.aio.AbortError, grpc.aio.InternalError):  # the latter: the caller is gone
            raise
        except Exception as error:
            await _abort(context, error, "")

    return guarded


def _guarded_stream(admit: Admit, behaviour: Any) -> Any:
    async def guarded(requests: AsyncIterable[Any], context: Context) -> AsyncIterator[Any]:
        try:
            admit(context)
            async for answer in behaviour(_refusing(requests), context):
                yield answer
        except (grpc.aio.AbortError, grpc.aio.InternalError):  # the latter: the caller is gone
            raise
        except Exception as error:
            await _abort(context, error, "")

    return guarded


async def _refusing(requests: AsyncIterable[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        if request is MALFORMED:
            raise _malformed()
        yield request


async def _next_message(context: Context) -> Any:
    """None when the caller ends the call before a whole message has come."""
    message: Any = await context.read()
    return None if message is grpc.aio.EOF else message


def _sender(context: Context) -> Send:
    """Writes to the caller. A write can fail before gRPC cancels the handler of one who is gone; both mean the same."""

    async def send(message: bytes) -> None:
        try:
            await context.write(message)
        except grpc.aio.InternalError:
            raise asyncio.CancelledError from None

    return send


def _no_message() -> InvalidRequest:
    return InvalidRequest.of("request", "the call ended without a whole message")


def _malformed() -> InvalidRequest:
    return InvalidRequest.of("request", "the bytes are not a valid message of this method")


def _why_cancelled(call: Call) -> str:
    """The transport cancels a handler at the deadline and when the caller takes the call back."""
    return "DEADLINE_EXCEEDED" if call.bounded and time.monotonic() >= call.deadline else "CANCELLED"


def _id_of_refused(call: Call) -> str:
    """For a call that failed before its request was read."""
    given = call.metadata.get("x-request-id", "")
    return given if request_id.is_usable(given) else request_id.settled("")


async def _abort(context: Context, error: Exception, call_id: str) -> NoReturn:
    await context.abort(*to_status(error, call_id))
