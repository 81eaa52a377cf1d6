"""The cases through `mercato_client`: its two clients and their streams tell what the stubs tell."""

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from tests.interop.conftest import Waiting
from tests.interop.plugin import SPECIAL, WIDE
from tests.interop.stubs import GATED
from tests.interop.ways import WAYS, Begin, Way
from tests.server.calls import PRICING, SEMANTIC, Wire
from tests.server.running import PATIENCE, Running
from tests.server.telemetry.scraping import value

from mercato_client import AsyncClient, Client, DeadlineExceeded, InvalidInput, NotFound, Unavailable

HELD = "mercato_requests_in_flight"


class Left(Exception):
    """What a caller leaves its block by."""


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


def one(x: float) -> dict[str, Any]:
    return {"x": np.full((1, 1), x, np.float32)}


async def price(begin: Begin, quantity: float) -> float:
    return round(float((await begin(PRICING, one(quantity)))["y"][0, 0]), 1)


async def held(waiting: Waiting, count: int) -> None:
    """Wait until the server holds so many requests for test.gate."""
    async with asyncio.timeout(PATIENCE):
        while await asyncio.to_thread(value, waiting.running, HELD, model=GATED) != count:
            pass


async def test_empty_unary(server: Running) -> None:
    with Client(server.address) as client:
        assert [model.name for model in client.models()] == [PRICING, SEMANTIC]
    async with AsyncClient(server.address) as asynchronous:
        assert [model.name for model in await asynchronous.models()] == [PRICING, SEMANTIC]


async def test_an_empty_request(way: Way, server: Running) -> None:
    async with way(server.address) as begin:
        with pytest.raises(InvalidInput) as caught:
            await begin(PRICING, {})
        assert caught.value.field == "inputs.x"
        assert await price(begin, 4.0) == 8.0


async def test_large_unary(way: Way, server: Running) -> None:
    async with way(server.address) as begin:
        assert (await begin(SEMANTIC, {"text": ["x" * 8192] * 64}))["embedding"].shape == (64, 384)


async def test_large_answer(way: Way, waiting: Waiting) -> None:
    x = np.arange(32 * 32_768, dtype=np.float32).reshape(32, -1)
    async with way(waiting.address) as begin:
        assert np.array_equal((await begin(WIDE, {"x": x}))["y"], x)


async def test_ping_pong(way: Way, server: Running) -> None:
    async with way(server.address) as begin:
        assert [await price(begin, number) for number in range(50)] == [2.0 * number for number in range(50)]


async def test_status_code_and_message(way: Way, server: Running) -> None:
    text = "there is no model 'no.model'; there are pricing.linear, semantic.encoder"
    async with way(server.address) as begin:
        with pytest.raises(NotFound) as caught:
            await begin("no.model", one(4.0))
        assert (caught.value.message, caught.value.reason) == (text, "MODEL_NOT_FOUND")
        assert await price(begin, 4.0) == 8.0


async def test_special_status_message(way: Way, waiting: Waiting) -> None:
    async with way(waiting.address) as begin:
        with pytest.raises(InvalidInput) as caught:
            await begin(WIDE, one(-1.0))
        assert (await begin(WIDE, one(1.0)))["y"] == 1.0
    assert caught.value.message == f"model 'test.wide': inputs.x: {SPECIAL}"
    assert caught.value.field == "inputs.x"


@pytest.mark.parametrize("way", ["AsyncClient", "Stream", "AsyncStream"])
async def test_cancel_after_begin(way: str, waiting: Waiting) -> None:
    """A call of `Client` blocks; it is cancelled with its client, below."""
    async with WAYS[way](waiting.address) as begin:
        with waiting.asleep():
            await held(waiting, 1)
            pending = begin(GATED, one(1.0))
            await held(waiting, 2)
            assert pending.cancel()
            await held(waiting, 1)
        assert (await begin(GATED, one(2.0)))["y"] == 2.0
    assert pending.cancelled()


async def test_cancel_after_first_response(way: Way, waiting: Waiting) -> None:
    """Leaving the block by an exception takes back what is not answered."""
    with waiting.asleep():
        with pytest.raises(Left):
            async with way(waiting.address) as begin:
                assert (await begin(WIDE, one(4.0)))["y"] == 4.0
                pending = begin(GATED, one(1.0))
                await held(waiting, 2)
                raise Left
        await held(waiting, 1)
        with pytest.raises((InvalidInput, asyncio.CancelledError)):
            await pending


async def test_timeout_on_sleeping_server(way: Way, waiting: Waiting) -> None:
    async with way(waiting.address) as begin:
        await begin(GATED, one(1.0))  # the signature is known: the timeout is the model's alone
        with waiting.asleep():
            with pytest.raises(DeadlineExceeded):
                await begin(GATED, one(1.0), timeout=0.3)
            await held(waiting, 1)
        assert (await begin(GATED, one(2.0)))["y"] == 2.0


async def test_a_draining_server_answers_what_it_took_and_refuses_the_rest(way: Way, own: Waiting) -> None:
    with grpc.insecure_channel(own.address) as channel:
        watch = Wire(channel).health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        async with way(own.address) as begin:
            taken = begin(GATED, one(-1.0))
            await asyncio.to_thread(own.gate.reached, "run")
            own.running.terminate()
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            with pytest.raises(Unavailable) as caught:
                await begin(GATED, one(1.0))
            assert caught.value.reason == "DRAINING"
            own.gate.open("run")
            assert (await taken)["y"] == -1.0
    assert own.running.ended() == 0


async def test_rpc_soak(way: Way, server: Running) -> None:
    async with way(server.address) as begin:
        assert {await price(begin, 4.0) for _ in range(300)} == {8.0}
