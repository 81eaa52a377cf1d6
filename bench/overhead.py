"""`make bench-overhead`: server CPU per Predict of pricing.linear beside a bare grpc.aio echo of the same bytes."""

import argparse
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from bench import echo, report, servers
from bench.load import Call, Load, connection, drive
from bench.report import Spread
from rich.progress import track
from rich.table import Table

from mercato.v1 import prediction_pb2, tensor_pb2
from mercato_client import Client

MODEL = "pricing.linear"
PREDICT = "/mercato.v1.PredictionService/Predict"
VALUES = tuple(number / 8 for number in range(64))
"""Values of x, one request each; the model was trained between 1 and 3 and answers 2x within 0.02 below 8."""
TOLERANCE = 0.02


@dataclass(frozen=True)
class Side:
    """One server under load."""

    server: servers.Server
    call: Call

    async def round(self, payloads: Sequence[bytes], calls: int, in_flight: int) -> tuple["Measured", Load]:
        """One measured round after a short one that fills caches and pools."""
        await drive(self.call, payloads, calls=calls // 10, in_flight=in_flight)
        before = self.server.cpu_seconds()
        load = await drive(self.call, payloads, calls=calls, in_flight=in_flight)
        used = self.server.cpu_seconds() - before
        return Measured(used / calls * 1e6, calls / load.seconds), load


@dataclass(frozen=True)
class Measured:
    """CPU time of the server in microseconds per call, and calls per second."""

    cpu_us: float
    rate: float


@dataclass(frozen=True)
class Figures:
    """All rounds at one number of calls in flight; `ratio` is of the two CPU times within each round."""

    in_flight: int
    mercato_us: Spread
    echo_us: Spread
    mercato_rate: Spread
    echo_rate: Spread
    ratio: Spread
    rounds: list[float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="alternations of the two servers")
    parser.add_argument("--calls", type=int, default=6000, help="calls per round at 64 in flight")
    asked = report.arguments(parser)
    figures = uvloop.run(measure(asked.store, asked.rounds, asked.calls))
    report.show([_table(figures)], {"overhead": figures}, as_json=asked.json)


async def measure(store: Path | None, rounds: int, calls: int) -> list[Figures]:
    """Both servers side by side, loaded in turn."""
    with servers.mercato(store) as server:
        server.event("ready")
        requests = payloads(server.address)
        async with connection(server.address, PREDICT) as predict:
            size = len(await predict(requests[0]))
            with servers.echo(size) as bare:
                async with connection(bare.address, echo.METHOD) as call:
                    sides = Side(server, predict), Side(bare, call)
                    return [
                        await _alternate(*sides, requests, rounds, calls, in_flight=64),
                        await _alternate(*sides, requests, rounds, calls // 3, in_flight=1),
                    ]


async def _alternate(
    ours: Side, bare: Side, payloads: Sequence[bytes], rounds: int, calls: int, *, in_flight: int
) -> Figures:
    pairs = []
    for _ in track(range(rounds), f"{in_flight} in flight", console=report.progress_console(), transient=True):
        measured, load = await ours.round(payloads, calls, in_flight)
        verify(load.answers)
        pairs.append((measured, (await bare.round(payloads, calls, in_flight))[0]))
    ratios = [a.cpu_us / b.cpu_us for a, b in pairs]
    return Figures(
        in_flight=in_flight,
        mercato_us=Spread.of([a.cpu_us for a, _ in pairs]),
        echo_us=Spread.of([b.cpu_us for _, b in pairs]),
        mercato_rate=Spread.of([a.rate for a, _ in pairs]),
        echo_rate=Spread.of([b.rate for _, b in pairs]),
        ratio=Spread.of(ratios),
        rounds=ratios,
    )


def payloads(address: str) -> list[bytes]:
    """The bytes that the Python client sends for one row of x."""
    with Client(address) as client:
        fingerprint = client.signature(MODEL).fingerprint
    return [_request(x, fingerprint).SerializeToString() for x in VALUES]


def _request(x: float, fingerprint: str) -> prediction_pb2.PredictRequest:
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FP32, shape=[1, 1], data=struct.pack("<f", x))
    return prediction_pb2.PredictRequest(
        model=prediction_pb2.ModelRef(name=MODEL),
        inputs=[tensor_pb2.NamedTensor(name="x", tensor=tensor)],
        schema_fingerprint=fingerprint,
    )


def verify(answers: Sequence[bytes]) -> None:
    """Raise RuntimeError unless every answer is y = 2x of its own request."""
    for number, answer in enumerate(answers):
        x = VALUES[number % len(VALUES)]
        (y,) = struct.unpack("<f", prediction_pb2.PredictResponse.FromString(answer).outputs[0].tensor.data)
        if not abs(y - 2 * x) <= TOLERANCE:
            raise RuntimeError(f"call {number}: got y = {y} for x = {x}, expected 2x within {TOLERANCE}")


def _table(figures: Sequence[Figures]) -> Table:
    table = Table("in flight", "mercato µs", "echo µs", "ratio", "mercato calls/s", "echo calls/s", title=__doc__)
    for line in figures:
        spreads: list[tuple[Any, int]] = [(line.mercato_us, 0), (line.echo_us, 0), (line.ratio, 2)]
        spreads += [(line.mercato_rate, 0), (line.echo_rate, 0)]
        table.add_row(str(line.in_flight), *(spread.show(digits) for spread, digits in spreads))
    return table


if __name__ == "__main__":
    main()
