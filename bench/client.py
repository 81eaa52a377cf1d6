"""`make bench-client`: CPU time of the Python client per Predict of pricing.linear beside a bare generated stub."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
from bench import frame, servers
from bench.frame import Case, Figure
from bench.pricing import MODEL, VALUES, payloads, verify_values, y_of

from mercato.v1 import prediction_pb2
from mercato.v1.prediction_pb2_grpc import PredictionServiceStub
from mercato_client import AsyncClient, Client, Prediction

TIMEOUT = 10.0
PLAIN = (("grpc.enable_http_proxy", 0),)

Round = Callable[[int], Sequence[float]]
"""Makes so many calls, one after the other, and gives the y of each."""


FIGURES: dict[str, Figure[float]] = {
    "client_us": Figure("client, µs of CPU", 0, lambda ours, _: ours),
    "stub_us": Figure("bare stub, µs of CPU", 0, lambda _, bare: bare),
    "ratio": Figure("ratio", 2, lambda ours, bare: ours / bare),
}
"""Of CPU microseconds of this process per call."""


def main() -> None:
    """Measure and print."""
    asked = frame.arguments(__doc__, rounds=9, of="client and stub", calls=(1000, "calls per round"))
    cases = measure(asked.store, asked.rounds, asked.calls)
    frame.show("client", __doc__, cases, FIGURES, as_json=asked.json)


def measure(store: Path | None, rounds: int, calls: int) -> list[Case]:
    """One server; the client and the stub call it in turn, over a connection each."""
    with servers.mercato(store) as server:
        server.event("ready")
        requests = [prediction_pb2.PredictRequest.FromString(data) for data in payloads(server.address)]
        with _threads(server.address, requests) as sides:
            blocking = _alternate("Client", *sides, rounds, calls)
        with _loop(server.address, requests) as sides:
            return [blocking, _alternate("AsyncClient", *sides, rounds, calls)]


def _alternate(way: str, ours: Round, bare: Round, rounds: int, calls: int) -> Case:
    """Rounds in turn, after a short one of each side that opens its connection and fills caches."""
    for side in (ours, bare):
        side(calls // 10)
    pairs = [(_cpu_us(ours, calls), _cpu_us(bare, calls)) for _ in frame.turns(way, rounds)]
    return frame.case(way, pairs, FIGURES)


def _cpu_us(side: Round, calls: int) -> float:
    before = time.process_time()
    answers = side(calls)
    used = time.process_time() - before
    verify_values(answers)
    return used / calls * 1e6


@contextmanager
def _threads(address: str, requests: Sequence[prediction_pb2.PredictRequest]) -> Iterator[tuple[Round, Round]]:
    """Client and stub in this thread. The stub's requests are made beforehand; y is read on both sides."""
    with Client(address, timeout=TIMEOUT) as client, grpc.insecure_channel(address, PLAIN) as channel:
        predict = PredictionServiceStub(channel).Predict
        yield (
            lambda calls: [_of_client(client.predict(MODEL, {"x": _x(number)})) for number in range(calls)],
            lambda calls: [y_of(predict(requests[n % len(requests)], timeout=TIMEOUT)) for n in range(calls)],
        )


@contextmanager
def _loop(address: str, requests: Sequence[prediction_pb2.PredictRequest]) -> Iterator[tuple[Round, Round]]:
    """The same with asyncio."""
    with asyncio.Runner() as runner:
        client, channel = AsyncClient(address, timeout=TIMEOUT), runner.run(_channel(address))
        predict: Any = PredictionServiceStub(channel).Predict

        async def ours(number: int) -> float:
            return _of_client(await client.predict(MODEL, {"x": _x(number)}))

        async def bare(number: int) -> float:
            return y_of(await predict(requests[number % len(requests)], timeout=TIMEOUT))

        yield (
            lambda calls: runner.run(_one_by_one(ours, calls)),
            lambda calls: runner.run(_one_by_one(bare, calls)),
        )
        runner.run(client.close())
        runner.run(channel.close())


async def _channel(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, PLAIN)


async def _one_by_one(call: Callable[[int], Awaitable[float]], calls: int) -> list[float]:
    return [await call(number) for number in range(calls)]


ROWS = [np.array([[x]], np.float32) for x in VALUES]


def _x(number: int) -> Any:
    return ROWS[number % len(ROWS)]


def _of_client(answer: Prediction) -> float:
    return float(answer["y"][0, 0])


if __name__ == "__main__":
    main()
