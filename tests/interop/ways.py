"""The four ways through which `mercato_client` calls a model, with one face: both clients, and a stream of each."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from tests.server.running import PATIENCE

from mercato_client import AsyncClient, Client, Prediction

# Takes the arguments of `predict` and gives the answer to come.
Begin = Callable[..., asyncio.Future[Prediction]]
Way = Callable[[str], AbstractAsyncContextManager[Begin]]


@asynccontextmanager
async def client(address: str) -> AsyncIterator[Begin]:
    with Client(address, timeout=PATIENCE) as opened:
        yield lambda *given, **facts: asyncio.ensure_future(asyncio.to_thread(opened.predict, *given, **facts))


@asynccontextmanager
async def async_client(address: str) -> AsyncIterator[Begin]:
    async with AsyncClient(address, timeout=PATIENCE) as opened:
        yield lambda *given, **facts: asyncio.ensure_future(opened.predict(*given, **facts))


@asynccontextmanager
async def stream(address: str) -> AsyncIterator[Begin]:
    with Client(address, timeout=PATIENCE) as opened, opened.stream() as calls:
        yield lambda *given, **facts: asyncio.wrap_future(calls.predict(*given, **facts))


@asynccontextmanager
async def async_stream(address: str) -> AsyncIterator[Begin]:
    async with AsyncClient(address, timeout=PATIENCE) as opened, opened.stream() as calls:

        async def answered(*given: object, **facts: object) -> Prediction:
            return await (await calls.predict(*given, **facts))  # type: ignore[arg-type]

        yield lambda *given, **facts: asyncio.ensure_future(answered(*given, **facts))


WAYS: dict[str, Way] = {"Client": client, "AsyncClient": async_client, "Stream": stream, "AsyncStream": async_stream}
