"""`make bench-stream`: PredictStream beside unary Predict of pricing.linear, the same requests in flight on each."""

from collections.abc import Sequence
from pathlib import Path

import uvloop
from bench import frame, servers
from bench.frame import Case, Figure
from bench.load import PREDICT, Measured, connection, drive, drive_stream, measured, stream
from bench.pricing import payloads, verify

PREDICT_STREAM = "/mercato.v1.PredictionService/PredictStream"

FIGURES: dict[str, Figure[Measured]] = {
    "unary_rate": Figure("unary, requests/s", 0, lambda unary, _: unary.rate),
    "stream_rate": Figure("stream, requests/s", 0, lambda _, stream: stream.rate),
    "rate_ratio": Figure("ratio", 2, lambda unary, stream: stream.rate / unary.rate),
    "unary_us": Figure("unary, server µs of CPU", 0, lambda unary, _: unary.cpu_us),
    "stream_us": Figure("stream, server µs of CPU", 0, lambda _, stream: stream.cpu_us),
}


def main() -> None:
    """Measure and print."""
    asked = frame.arguments(__doc__, rounds=9, of="the two ways", calls=(6000, "requests per round at 64 in flight"))
    cases = uvloop.run(measure(asked.store, asked.rounds, asked.calls))
    frame.show("stream", __doc__, cases, FIGURES, as_json=asked.json)


async def measure(store: Path | None, rounds: int, calls: int) -> list[Case]:
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
) -> Case:
    name, pairs = f"{in_flight} in flight", []
    for _ in frame.turns(name, rounds):
        unary = await _unary(server, requests, calls, in_flight)
        pairs.append((unary, await _stream(server, requests, calls, in_flight)))
    return frame.case(name, pairs, FIGURES)


async def _unary(server: servers.Server, requests: Sequence[bytes], calls: int, in_flight: int) -> Measured:
    async with connection(server.address, PREDICT) as call:
        figures, load = await measured(
            server, lambda count: drive(call, requests, calls=count, in_flight=in_flight), calls
        )
    verify(load.answers)
    return figures


async def _stream(server: servers.Server, requests: Sequence[bytes], calls: int, in_flight: int) -> Measured:
    async with stream(server.address, PREDICT_STREAM) as exchange:
        figures, load = await measured(
            server, lambda count: drive_stream(exchange, requests, calls=count, in_flight=in_flight), calls
        )
    verify(load.answers)
    return figures


if __name__ == "__main__":
    main()
