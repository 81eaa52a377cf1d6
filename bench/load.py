"""Load: calls in flight on one connection or stream, or at a rate, the answers kept for checking afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import grpc.aio
from bench.servers import Server

from mercato.v1 import prediction_pb2

Call = Callable[[bytes], Awaitable[bytes]]

PREDICT = "/mercato.v1.PredictionService/Predict"
DEADLINE = 30.0


@dataclass(frozen=True)
class Load:
    """`answers` in the order of the calls; `client_cpu` is the CPU time of the calling process."""

    seconds: float
    client_cpu: float
    answers: list[bytes]


@dataclass(frozen=True)
class Measured:
    """Calls per second, and CPU time of the server in microseconds per call."""

    rate: float
    cpu_us: float


async def measured(server: Server, work: Callable[[int], Awaitable[Load]], calls: int) -> tuple[Measured, Load]:
    """One measured round of so many calls after a short one that fills caches and pools."""
    await work(calls // 10)
    before = server.cpu_seconds()
    load = await work(calls)
    used = server.cpu_seconds() - before
    return Measured(calls / load.seconds, used / calls * 1e6), load


def channel(address: str, *options: tuple[str, int]) -> grpc.aio.Channel:
    """A channel to the server itself, whatever proxy the environment names."""
    return grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0), *options])


@asynccontextmanager
async def connection(address: str, method: str, *options: tuple[str, int]) -> AsyncIterator[Call]:
    """One method over one HTTP/2 connection: bytes in, bytes out, a deadline on each call."""
    async with channel(address, *options) as opened:
        invoke: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = opened.unary_unary(method)

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


async def capacity(call: Call, payloads: Sequence[bytes], *, calls: int, in_flight: int) -> float:
    """Calls per second: the best of three loads, as what disturbs one only makes it slower."""
    loads = [await drive(call, payloads, calls=calls, in_flight=in_flight) for _ in range(3)]
    return max(calls / load.seconds for load in loads)


@asynccontextmanager
async def stream(address: str, method: str) -> AsyncIterator[grpc.aio.StreamStreamCall[bytes, bytes]]:
    """One open PredictStream on a connection of its own; bytes in, bytes out."""
    async with channel(address) as opened:
        invoke: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = opened.stream_stream(method)
        exchange = invoke()
        yield exchange
        await exchange.done_writing()


async def drive_stream(
    exchange: grpc.aio.StreamStreamCall[bytes, bytes], payloads: Sequence[bytes], *, calls: int, in_flight: int
) -> Load:
    """Send `calls` PredictRequests through one open stream; request number i is payload i modulo their count.

    The answers are the PredictResponses, in the order of the requests.
    """
    framed = [_framed(payloads[number % len(payloads)], number) for number in range(calls)]
    answers = [b""] * calls
    room = asyncio.Semaphore(in_flight)

    async def send() -> None:
        for message in framed:
            await room.acquire()
            await exchange.write(message)

    start, cpu = time.perf_counter(), time.process_time()
    sending = asyncio.create_task(send())
    received = []
    for _ in range(calls):
        received.append(cast(bytes, await exchange.read()))
        room.release()
    await sending
    load = Load(time.perf_counter() - start, time.process_time() - cpu, answers)
    for data in received:
        answer = prediction_pb2.PredictStreamResponse.FromString(data)
        answers[int(answer.request_id)] = answer.ok.SerializeToString()
    return load


def _framed(payload: bytes, number: int) -> bytes:
    request = prediction_pb2.PredictRequest.FromString(payload)
    request.request_id = str(number)
    return prediction_pb2.PredictStreamRequest(predict=request).SerializeToString()


@dataclass(frozen=True)
class Paced:
    """One call of a paced load: when it was due and when it had ended, in seconds of `time.perf_counter`.

    `answer` is empty where `error`, the name of the status, is not.
    """

    due: float
    ended: float
    answer: bytes = b""
    error: str = ""


async def pace(call: Call, payloads: Sequence[bytes], *, rate: int, stop: asyncio.Event, seconds: float) -> list[Paced]:
    """Begin `rate` calls a second, however long they take, until told to stop; at most `seconds` long.

    A call counts from when it was due, so that what holds the caller back is not left out.
    """

    async def one(number: int, due: float) -> Paced:
        try:
            answer = await call(payloads[number % len(payloads)])
            return Paced(due, time.perf_counter(), answer)
        except grpc.aio.AioRpcError as error:
            return Paced(due, time.perf_counter(), error=error.code().name)

    begin, calls = time.perf_counter(), []
    for number in range(int(rate * seconds)):
        due = begin + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if stop.is_set():
            break
        calls.append(asyncio.create_task(one(number, due)))
    return await asyncio.gather(*calls)
