"""`make bench-stream`: PredictStream beside unary Predict of pricing.linear, the same requests in flight on each."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from bench import report, servers
from bench.load import Load, connection, drive, drive_stream, stream
from bench.overhead import PREDICT, payloads, verify
from bench.report import Spread
from rich.progress import track
from rich.table import Table

PREDICT_STREAM = "/mercato.v1.PredictionService/PredictStream"


@dataclass(frozen=True)
class Measured:
    """Requests per second, and CPU time of the server in microseconds per request."""

    rate: float
    cpu_us: float


@dataclass(frozen=True)
class Figures:
    """All rounds at one number of requests in flight; both ratios are taken within each round."""

    in_flight: int
    unary_rate: Spread
    stream_rate: Spread
    rate_ratio: Spread
    unary_us: Spread
    stream_us: Spread


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="alternations of the two ways")
    parser.add_argument("--calls", type=int, default=6000, help="requests per round at 64 in flight")
    asked = report.arguments(parser)
    figures = uvloop.run(measure(asked.store, asked.rounds, asked.calls))
    report.show([_table(figures)], {"stream": figures}, as_json=asked.json)


async def measure(store: Path | None, rounds: int, calls: int) -> list[Figures]:
    """One server, called in turn by unary calls and through one stream, over one connection each."""
    with servers.mercato(store) as server:
        server.event("ready")
        requests = payloads(server.address)
        return [
            await _alternate(server, requests, rounds, calls, in_flight=64),
            await _alternate(server, requests, rounds, calls // 3, in_flight=1),
        ]


async def _alternate(
    server: servers.Server, requests: Sequence[bytes], rounds: int, calls: int, *, in_flight: int
) -> Figures:
    pairs = []
    for _ in track(range(rounds), f"{in_flight} in flight", console=report.progress_console(), transient=True):
        unary = await _unary(server, requests, calls, in_flight)
        pairs.append((unary, await _stream(server, requests, calls, in_flight)))
    return Figures(
        in_flight=in_flight,
        unary_rate=Spread.of([a.rate for a, _ in pairs]),
        stream_rate=Spread.of([b.rate for _, b in pairs]),
        rate_ratio=Spread.of([b.rate / a.rate for a, b in pairs]),
        unary_us=Spread.of([a.cpu_us for a, _ in pairs]),
        stream_us=Spread.of([b.cpu_us for _, b in pairs]),
    )


async def _unary(server: servers.Server, requests: Sequence[bytes], calls: int, in_flight: int) -> Measured:
    async with connection(server.address, PREDICT) as call:
        await drive(call, requests, calls=calls // 10, in_flight=in_flight)
        before = server.cpu_seconds()
        return _measured(await drive(call, requests, calls=calls, in_flight=in_flight), server, before)


async def _stream(server: servers.Server, requests: Sequence[bytes], calls: int, in_flight: int) -> Measured:
    async with stream(server.address, PREDICT_STREAM) as exchange:
        await drive_stream(exchange, requests, calls=calls // 10, in_flight=in_flight)
        before = server.cpu_seconds()
        return _measured(await drive_stream(exchange, requests, calls=calls, in_flight=in_flight), server, before)


def _measured(load: Load, server: servers.Server, before: float) -> Measured:
    used = server.cpu_seconds() - before
    verify(load.answers)
    return Measured(len(load.answers) / load.seconds, used / len(load.answers) * 1e6)


def _table(figures: Sequence[Figures]) -> Table:
    table = Table("in flight", "unary/s", "stream/s", "ratio", "unary, server µs", "stream, server µs", title=__doc__)
    for line in figures:
        spreads: list[tuple[Any, int]] = [(line.unary_rate, 0), (line.stream_rate, 0), (line.rate_ratio, 2)]
        spreads += [(line.unary_us, 0), (line.stream_us, 0)]
        table.add_row(str(line.in_flight), *(spread.show(digits) for spread, digits in spreads))
    return table


if __name__ == "__main__":
    main()
