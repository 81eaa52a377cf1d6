"""A closed loop of callers: so many calls in flight on one connection, the answers kept for checking afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc.aio

Call = Callable[[bytes], Awaitable[bytes]]

DEADLINE = 30.0


@dataclass(frozen=True)
class Load:
    """`answers` in the order of the calls; `client_cpu` is the CPU time of the calling process."""

    seconds: float
    client_cpu: float
    answers: list[bytes]


@asynccontextmanager
async def connection(address: str, method: str) -> AsyncIterator[Call]:
    """One method over one HTTP/2 connection: bytes in, bytes out, a deadline on each call."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        invoke: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)

        async def call(payload: bytes) -> bytes:
            answer: bytes = await invoke(payload, timeout=DEADLINE)
            return answer

        yield call


async def drive(call: Call, payloads: Sequence[bytes], *, calls: int, in_flight: int) -> Load:
    """Make `calls` calls; call number i carries payload i modulo their count."""
    answers = [b""] * calls
    numbers = iter(range(calls))

    async def caller() -> None:
        for number in numbers:
            answers[number] = await call(payloads[number % len(payloads)])

    start, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return Load(time.perf_counter() - start, time.process_time() - cpu, answers)
