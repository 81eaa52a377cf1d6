"""`AsyncClient` and its streams: the surface of `Client`, awaited."""

import asyncio
import gc
import inspect
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from tests.client.fake import Failure, FakeServer, Script, numbers

from mercato_client import AsyncClient, Client, Health, InvalidInput, NotFound, NotReady, Overloaded, Unavailable
from mercato_client.errors import DeadlineExceeded, ServerError
from mercato_client.flights import LIMIT

X = "pricing.linear"


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.address, timeout=5.0) as connected:
        yield connected


def test_both_clients_have_the_same_calls() -> None:
    def surface(kind: type) -> dict[str, list[str]]:
        calls = {name: call for name, call in inspect.getmembers(kind, callable) if not name.startswith("_")}
        return {name: list(inspect.signature(call).parameters) for name, call in calls.items()}

    assert surface(Client) == surface(AsyncClient) and "predict" in surface(Client)
    assert inspect.signature(Client) == inspect.signature(AsyncClient)


async def test_every_call_answers(client: AsyncClient, server: FakeServer) -> None:
    assert (await client.predict(X, {"x": [[4.0]]}))["x"].tolist() == [[4.0]]
    assert [model.name for model in await client.models()] == [X]
    assert (await client.catalog()).models[0] == await client.model(X)
    assert (await client.signature(X)).fingerprint == "f1"
    assert await client.health() is Health.SERVING
    await client.wait_until_ready(5.0)
    assert server.described == 2


async def test_errors_are_those_of_the_other_client(client: AsyncClient, server: FakeServer, nobody: str) -> None:
    no_retry = (("grpc-retry-pushback-ms", "-1"),)
    server.failures = [Failure(StatusCode.RESOURCE_EXHAUSTED, "full", "OVERLOADED", trailing=no_retry)]
    with pytest.raises(Overloaded, match="full"):
        await client.predict(X, {"x": 1.0})
    with pytest.raises(NotFound, match="model 'no.such' not found"):
        await client.model("no.such")
    with pytest.raises(InvalidInput, match="timeout: got nan"):
        await client.predict(X, {"x": 1.0}, timeout=float("nan"))
    with pytest.raises(DeadlineExceeded, match="the timeout of 0 s has passed"):
        await client.predict(X, {"x": 1.0}, timeout=0.0)
    with pytest.raises(NotReady, match="model 'pricing.linear' is SERVICE_UNKNOWN after 0.1 s"):
        await client.wait_until_ready(0.1, model=X)
    async with AsyncClient(nobody) as alone:
        with pytest.raises(Unavailable, match=f"no server answers at {nobody}"):
            await alone.predict(X, {"x": 1.0})


async def test_waiting_ends_when_the_model_is_ready(client: AsyncClient, server: FakeServer) -> None:
    waiting = asyncio.create_task(client.wait_until_ready(10.0, model=X))
    assert await client.health() is Health.SERVING
    server.health.set(X, health_pb2.HealthCheckResponse.SERVING)
    await waiting


async def test_waiting_pauses_after_a_watch_that_fails(client: AsyncClient, server: FakeServer) -> None:
    server.watch_failures += [Failure(StatusCode.UNAVAILABLE, "no upstream")]
    begun = time.monotonic()
    await client.wait_until_ready(10.0)
    assert time.monotonic() - begun >= 0.1


async def test_a_changed_signature_is_fetched_and_the_call_repeated(client: AsyncClient, server: FakeServer) -> None:
    await client.predict(X, {"x": [[1.0]]})
    server.offer(X, numbers("x", "FP64", 1), fingerprint="f2")
    server.failures = [Failure(StatusCode.FAILED_PRECONDITION, "changed", "SCHEMA_CHANGED")]
    assert (await client.predict(X, {"x": [[1.0]]}))["x"].dtype == np.float64


async def test_cancelling_the_task_cancels_the_call(client: AsyncClient, server: FakeServer) -> None:
    class Waiting(Failure):
        def raise_in(self, context: grpc.ServicerContext) -> None:
            loop.call_soon_threadsafe(begun.set)
            context.add_callback(end)
            leave.wait(10)

    def end() -> None:
        loop.call_soon_threadsafe(ended.set)

    loop, begun, ended, leave = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event(), threading.Event()
    server.failures = [Waiting(StatusCode.OK)]
    task = asyncio.create_task(client.predict(X, {"x": 1.0}))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await ended.wait()
    leave.set()


async def test_closing_ends_the_calls_in_flight(server: FakeServer) -> None:
    class Closing(Failure):
        def raise_in(self, context: grpc.ServicerContext) -> None:
            asyncio.run_coroutine_threadsafe(client.close(), loop).result(10)

    loop, client = asyncio.get_running_loop(), AsyncClient(server.address)
    server.failures = [Closing(StatusCode.OK)]
    for _ in range(2):
        with pytest.raises(InvalidInput, match="the client is closed; open another one"):
            await client.predict(X, {"x": 1.0})


def test_a_second_event_loop_is_refused(server: FakeServer) -> None:
    client = AsyncClient(server.address)
    asyncio.run(use(client))
    with pytest.raises(InvalidInput, match="the client belongs to another event loop; make one AsyncClient in each"):
        asyncio.run(use(client))


def test_a_stream_outside_an_event_loop_is_refused(server: FakeServer) -> None:
    with pytest.raises(InvalidInput, match="no event loop is running; call it in a coroutine"):
        AsyncClient(server.address).stream()


async def use(client: AsyncClient) -> None:
    await client.predict(X, {"x": 1.0})


async def opened(server: FakeServer, number: int = 0) -> Script:
    """The server's side of a stream, once one request more has come."""
    script = await asyncio.to_thread(server.stream, number)
    await asyncio.to_thread(script.got.get, timeout=10)
    return script


async def test_a_stream_answers_in_any_order(client: AsyncClient, server: FakeServer) -> None:
    server.held = {1.0}
    async with client.stream() as stream:
        slow, fast = await stream.predict(X, {"x": 1.0}), await stream.predict(X, {"x": 2.0})
        assert (await fast)["x"].tolist() == [2.0] and not slow.done()
        server.stream().release("1")
        assert (await slow)["x"].tolist() == [1.0]
    assert await asyncio.to_thread(server.stream().ended.wait, 10) and server.stream().half_closed.is_set()


async def test_leaving_a_stream_waits_for_what_is_open(client: AsyncClient, server: FakeServer) -> None:
    async with client.stream() as stream:
        pending = [await stream.predict(X, {"x": float(number)}) for number in range(600)]
    assert [one.result()["x"].item() for one in pending] == list(range(600)) and server.described == 1
    with pytest.raises(InvalidInput, match="the stream is closed"):
        await stream.predict(X, {"x": 1.0})


async def test_an_error_of_one_request_leaves_the_stream_open(client: AsyncClient, server: FakeServer) -> None:
    server.failures = [Failure(StatusCode.RESOURCE_EXHAUSTED, "full", "OVERLOADED")]
    async with client.stream() as stream:
        full, wrong = await stream.predict(X, {"x": 1.0}), await stream.predict(X, {"z": 1.0})
        with pytest.raises(Overloaded):
            await full
        with pytest.raises(InvalidInput, match=r"inputs\.z: unknown input"):
            await wrong
        assert (await (await stream.predict(X, {"x": 3.0})))["x"].tolist() == [3.0]


async def test_cancelling_an_answer_tells_the_server(client: AsyncClient, server: FakeServer) -> None:
    server.held = {1.0}
    async with client.stream() as stream:
        pending = await stream.predict(X, {"x": 1.0})
        await opened(server)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pending, 0.01)
        assert await asyncio.to_thread(server.stream().cancelled.get) == "1" and pending.cancelled()


async def test_the_timeout_holds_where_no_answer_comes(client: AsyncClient, server: FakeServer) -> None:
    server.held = {1.0, 2.0}
    async with client.stream() as stream:
        late = await stream.predict(X, {"x": 1.0}, timeout=30.0)
        soon = await stream.predict(X, {"x": 2.0}, timeout=0.1)
        with pytest.raises(DeadlineExceeded, match=f"no answer from {server.address} within the timeout"):
            await soon
        assert await asyncio.to_thread(server.stream().cancelled.get) == "2" and not late.done()
        server.stream().release("1")
        assert (await late)["x"].tolist() == [1.0]


async def test_a_full_stream_waits_up_to_the_timeout(client: AsyncClient, server: FakeServer) -> None:
    server.held = {1.0}
    async with client.stream() as stream:
        held = [await stream.predict(X, {"x": 1.0}, timeout=30.0) for _ in range(LIMIT)]
        with pytest.raises(DeadlineExceeded, match="256 requests were in flight"):
            await (await stream.predict(X, {"x": 2.0}, timeout=0.1))
        waiting = asyncio.create_task(stream.predict(X, {"x": 2.0}))
        for number in range(1, LIMIT + 1):
            await opened(server)
            server.stream().release(str(number))
        assert (await (await waiting))["x"].tolist() == [2.0]
    assert all(one.done() for one in held)


async def test_a_predict_cancelled_while_it_waits_for_room_is_not_waited_for(
    client: AsyncClient, server: FakeServer
) -> None:
    server.held = {1.0}
    async with asyncio.timeout(10), client.stream() as stream:
        held = [await stream.predict(X, {"x": 1.0}, timeout=1000.0) for _ in range(LIMIT)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.predict(X, {"x": 2.0}, timeout=1000.0), 0.01)
        for one in held:
            one.cancel()


async def test_a_predict_cancelled_while_it_waits_for_the_signature_is_not_waited_for(
    client: AsyncClient, server: FakeServer
) -> None:
    class Waiting(Failure):
        def raise_in(self, context: grpc.ServicerContext) -> None:
            loop.call_soon_threadsafe(begun.set)
            leave.wait(10)

    loop, begun, leave = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    server.catalog_failures = [Waiting(StatusCode.OK)]
    async with asyncio.timeout(10), client.stream() as stream:
        waiting = asyncio.create_task(stream.predict(X, {"x": 1.0}))
        await begun.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    leave.set()


async def test_leaving_a_stream_by_an_exception_cancels(client: AsyncClient, server: FakeServer) -> None:
    server.held = {1.0}
    with pytest.raises(KeyError):
        async with client.stream() as stream:
            pending = await stream.predict(X, {"x": 1.0})
            raise KeyError
    assert pending.cancelled() and await asyncio.to_thread(server.stream().ended.wait, 10)


def _told_of_this_loop() -> list[object]:
    """What nobody fetched; grpc serves the loops of earlier tests too, and its callback fails on closed ones."""
    told: list[object] = []

    def keep(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "handle" not in context:
            told.append(context)

    asyncio.get_running_loop().set_exception_handler(keep)
    return told


async def test_a_broken_stream_fails_all_and_logs_nothing(client: AsyncClient, server: FakeServer) -> None:
    logged = _told_of_this_loop()
    server.held = {1.0}
    async with client.stream() as stream:
        pending = [await stream.predict(X, {"x": 1.0}) for _ in range(3)]
        for _ in pending:
            await opened(server)
        server.stream().fail(Failure(StatusCode.INTERNAL, "failed"))
        with pytest.raises(ServerError, match="failed"):
            await pending[0]
        with pytest.raises(ServerError, match="failed"):
            await stream.predict(X, {"x": 1.0})
    del pending
    gc.collect()
    assert logged == []


async def test_closing_the_client_ends_its_streams(client: AsyncClient, server: FakeServer) -> None:
    server.held = {1.0}
    async with client.stream() as stream:
        pending = await stream.predict(X, {"x": 1.0})
        await opened(server)
        await client.close()
        with pytest.raises(InvalidInput, match="is closed"):
            await pending


async def test_a_stream_follows_a_changed_signature(client: AsyncClient, server: FakeServer) -> None:
    async with client.stream() as stream:
        await (await stream.predict(X, {"x": [[1.0]]}))
        server.offer(X, numbers("x", "FP64", 1), fingerprint="f2")
        server.failures = [Failure(StatusCode.FAILED_PRECONDITION, "changed", "SCHEMA_CHANGED")]
        pending = await stream.predict(X, {"x": [[1.0]]})
    assert pending.result()["x"].dtype == np.float64


async def test_a_changed_signature_is_fetched_once_for_all_requests_in_flight(
    client: AsyncClient, server: FakeServer
) -> None:
    server.held = {1.0}
    await client.signature(X)
    server.failures = [Failure(StatusCode.FAILED_PRECONDITION, "changed", "SCHEMA_CHANGED")] * 50
    async with client.stream() as stream:
        pending = [await stream.predict(X, {"x": [[1.0]]}) for _ in range(50)]
        for _ in pending:
            await opened(server)
        server.offer(X, numbers("x", "FP64", 1), fingerprint="f2")
        for number in range(1, 51):
            server.stream().release(str(number))
        assert {(await one)["x"].dtype for one in pending} == {np.dtype(np.float64)}
    assert server.described == 2


async def test_a_server_that_stops_while_requests_are_written_is_unavailable(
    client: AsyncClient, server: FakeServer
) -> None:
    server.held = {1.0}
    await client.signature(X)
    for number in range(8):
        async with client.stream() as stream:
            pending = [await stream.predict(X, {"x": 1.0})]
            (await opened(server, number)).fail(Failure(StatusCode.UNAVAILABLE, "stopping", "DRAINING"))
            with pytest.raises(Unavailable):
                while True:
                    pending.append(await stream.predict(X, {"x": 1.0}))
                    await asyncio.sleep(0)
            assert all(isinstance(one.exception(), Unavailable) for one in pending)
