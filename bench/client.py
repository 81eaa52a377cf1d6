"""`make bench-client`: CPU time of the Python client per Predict of pricing.linear beside a bare generated stub."""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
from bench import report, servers
from bench.overhead import MODEL, TOLERANCE, VALUES, payloads
from bench.report import Spread
from rich.progress import track
from rich.table import Table

from mercato.v1 import prediction_pb2
from mercato.v1.prediction_pb2_grpc import PredictionServiceStub
from mercato_client import AsyncClient, Client, Prediction

TIMEOUT = 10.0
PLAIN = (("grpc.enable_http_proxy", 0),)

Round = Callable[[int], Sequence[float]]
"""Makes so many calls, one after the other, and gives the y of each."""


@dataclass(frozen=True)
class Figures:
    """CPU microseconds of this process per call; `ratio` is taken within each round."""

    way: str
    client_us: Spread
    stub_us: Spread
    ratio: Spread
    rounds: list[float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="alternations of client and stub")
    parser.add_argument("--calls", type=int, default=1000, help="calls per round")
    asked = report.arguments(parser)
    figures = measure(asked.store, asked.rounds, asked.calls)
    report.show([_table(figures)], {"client": figures}, as_json=asked.json)


def measure(store: Path | None, rounds: int, calls: int) -> list[Figures]:
    """One server; the client and the stub call it in turn, over a connection each."""
    with servers.mercato(store) as server:
        server.event("ready")
        requests = [prediction_pb2.PredictRequest.FromString(data) for data in payloads(server.address)]
        with _threads(server.address, requests) as sides:
            blocking = _alternate("Client", *sides, rounds, calls)
        with _loop(server.address, requests) as sides:
            return [blocking, _alternate("AsyncClient", *sides, rounds, calls)]


def _alternate(way: str, ours: Round, bare: Round, rounds: int, calls: int) -> Figures:
    """Rounds in turn, after a short one of each side that opens its connection and fills caches."""
    for side in (ours, bare):
        side(calls // 10)
    turns = track(range(rounds), way, console=report.progress_console(), transient=True)
    pairs = [(_cpu_us(ours, calls), _cpu_us(bare, calls)) for _ in turns]
    ratios = [a / b for a, b in pairs]
    client, stub = Spread.of([a for a, _ in pairs]), Spread.of([b for _, b in pairs])
    return Figures(way, client, stub, Spread.of(ratios), ratios)


def _cpu_us(side: Round, calls: int) -> float:
    before = time.process_time()
    answers = side(calls)
    used = time.process_time() - before
    _verify(answers)
    return used / calls * 1e6


@contextmanager
def _threads(address: str, requests: Sequence[prediction_pb2.PredictRequest]) -> Iterator[tuple[Round, Round]]:
    """Client and stub in this thread. The stub's requests are made beforehand; y is read on both sides."""
    with Client(address, timeout=TIMEOUT) as client, grpc.insecure_channel(address, PLAIN) as channel:
        predict = PredictionServiceStub(channel).Predict
        yield (
            lambda calls: [_of_client(client.predict(MODEL, {"x": _x(number)})) for number in range(calls)],
            lambda calls: [_of_stub(predict(requests[n % len(requests)], timeout=TIMEOUT)) for n in range(calls)],
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
            return _of_stub(await predict(requests[number % len(requests)], timeout=TIMEOUT))

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


def _of_stub(answer: prediction_pb2.PredictResponse) -> float:
    return float(np.frombuffer(answer.outputs[0].tensor.data, np.float32)[0])


def _verify(answers: Sequence[float]) -> None:
    for number, y in enumerate(answers):
        x = VALUES[number % len(VALUES)]
        if not abs(y - 2 * x) <= TOLERANCE:
            raise RuntimeError(f"call {number}: got y = {y} for x = {x}, expected 2x within {TOLERANCE}")


def _table(figures: Sequence[Figures]) -> Table:
    table = Table("", "client µs", "bare stub µs", "ratio", title=__doc__)
    for line in figures:
        table.add_row(line.way, line.client_us.show(0), line.stub_us.show(0), line.ratio.show(2))
    return table


if __name__ == "__main__":
    main()
