"""The guard around every method: whatever goes wrong becomes a status, and keeps nothing of the call alive."""

import asyncio
import gc
import logging
import weakref
from typing import Any

import grpc
import grpc.aio
import pytest

from mercato_server.contract.call import Call, StreamCall
from mercato_server.errors import InvalidRequest, NotFound
from mercato_server.rpc.access import Access
from mercato_server.rpc.interceptor import Guard, Handler, Send
from mercato_server.rpc.observation import Observation


class Ended(Exception):
    """What `abort` raises."""


class Context:
    """A call's context as gRPC hands it in; remembers how the call ended."""

    def __init__(self, remaining: float | None = None, **metadata: str) -> None:
        self._remaining = remaining
        self._metadata = [(key.replace("_", "-"), value) for key, value in metadata.items()]
        self.message: Any = b""
        self.code: grpc.StatusCode | None = None
        self.text = ""
        self.trailing: dict[str, Any] = {}

    def time_remaining(self) -> float | None:
        return self._remaining

    def peer(self) -> str:
        return "ipv4:192.0.2.7:50123"

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return self._metadata

    async def read(self) -> Any:
        return self.message

    async def write(self, message: bytes) -> None:
        """The caller is gone."""
        raise grpc.aio.InternalError

    async def abort(self, code: grpc.StatusCode, text: str, trailing: tuple[tuple[str, Any], ...]) -> None:
        self.code, self.text, self.trailing = code, text, dict(trailing)
        raise Ended


def guarded(handler: Handler) -> Any:
    """The method as gRPC calls it."""
    return Guard(30.0, Access(), Observation()).unary("test.Service/Method", handler).stream_unary


async def ended(context: Context, error: Exception) -> Context:
    """The context of a call whose method raised."""

    async def fail(call: Call) -> bytes:
        raise error

    with pytest.raises(Ended):
        await guarded(fail)(None, context)
    return context


async def test_an_unexpected_error_is_internal_and_its_text_stays_here(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "mercato.rpc"):
        context = await ended(Context(), KeyError("/secret/path"))
    assert context.code is grpc.StatusCode.INTERNAL
    assert "secret" not in f"{context.text}{context.trailing}"


async def test_a_stream_that_is_refused_is_observed() -> None:
    seen = Observation()

    async def never(stream: StreamCall) -> None:
        raise AssertionError("the access table has no row")

    context, method = Context(), Guard(30.0, Access([]), seen).stream("test.Service/Stream", never)
    run: Any = method.stream_stream
    with pytest.raises(Ended):
        await run(None, context)
    assert context.code is grpc.StatusCode.PERMISSION_DENIED
    assert seen.requests.counts() == {("test.Service/Stream", "", 0, "PERMISSION_DENIED"): 1}


async def test_an_answer_to_a_caller_who_has_just_gone_ends_the_stream_as_if_taken_back() -> None:
    async def answer(stream: StreamCall) -> None:
        await stream.send(b"too late")

    seen = Observation()
    run: Any = Guard(30.0, Access(), seen).stream("test.Service/Stream", answer).stream_stream
    with pytest.raises(asyncio.CancelledError):
        await run(None, Context())
    assert seen.requests.counts() == {}


async def test_progress_told_to_a_caller_who_has_just_gone_counts_as_cancelled() -> None:
    async def tell(call: Call, send: Send) -> None:
        await send(b"too late")

    seen = Observation()
    run: Any = Guard(30.0, Access(), seen).telling("test.Service/Tell", tell).stream_stream
    with pytest.raises(asyncio.CancelledError):
        await run(None, Context())
    assert seen.requests.counts() == {("test.Service/Tell", "", 0, "CANCELLED"): 1}


async def test_a_timeout_inside_a_method_is_no_passed_deadline() -> None:
    assert (await ended(Context(), TimeoutError())).code is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("why", [ValueError("/secret/path"), 3, b"/secret/path"])
async def test_an_error_whose_facts_fit_no_message_is_internal(why: Any) -> None:
    context = await ended(Context(), InvalidRequest.of("inputs.x", why))
    assert context.code is grpc.StatusCode.INTERNAL
    assert "secret" not in f"{context.text}{context.trailing}"


@pytest.mark.parametrize("given", ["mine", "a" * 128])
async def test_errors_echo_the_request_id_of_the_metadata(given: str) -> None:
    context = await ended(Context(x_request_id=given), NotFound("no such model"))
    assert context.trailing["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a" * 129, "a\nb", "编号"])
async def test_errors_have_a_request_id_of_ours_when_there_is_no_usable_one(given: str) -> None:
    context = await ended(Context(x_request_id=given), NotFound("no such model"))
    assert context.trailing["x-request-id"] not in ("", given)


async def test_a_message_that_never_comes_whole_is_waited_for_no_longer_than_the_default() -> None:
    class Stalled(Context):
        async def read(self) -> Any:
            await asyncio.Event().wait()

    async def never(call: Call) -> bytes:
        raise AssertionError("there is nothing to answer")

    context, method = Stalled(), Guard(0.01, Access(), Observation()).unary("test.Service/Method", never)
    run: Any = method.stream_unary
    with pytest.raises(Ended):
        await run(None, context)
    assert context.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_call_that_ends_without_a_message_is_the_callers_mistake() -> None:
    async def never(call: Call) -> bytes:
        raise AssertionError("there is nothing to answer")

    context = Context()
    context.message = grpc.aio.EOF
    with pytest.raises(Ended):
        await guarded(never)(None, context)
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "the call ended without a whole message" in context.text


@pytest.mark.parametrize(("remaining", "bounded"), [(None, False), (5.0, True)])
async def test_a_call_without_deadline_gets_the_default(remaining: float | None, bounded: bool) -> None:
    seen: list[Call] = []

    async def keep(call: Call) -> bytes:
        seen.append(call)
        return b""

    await guarded(keep)(None, Context(remaining))
    assert seen[0].bounded is bounded


async def test_refused_bytes_leave_nothing_behind() -> None:
    """A traceback that an error keeps would keep the frames of every call that met it."""

    async def never(request: Any, context: Any) -> Any:
        raise AssertionError("malformed bytes reach no method")

    def parse(data: bytes) -> Any:
        raise ValueError

    guard = Guard(30.0, Access(), Observation())
    handler: Any = guard.library("test.Service/Method", grpc.unary_unary_rpc_method_handler(never, parse, bytes))
    context = Context()
    context.message = handler.request_deserializer(b"\xff")
    with pytest.raises(Ended):
        await handler.stream_unary(None, context)
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT
    kept = weakref.ref(context)
    del context
    gc.collect()
    assert kept() is None
