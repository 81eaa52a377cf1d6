"""`make bench-isolation`: plugins in processes of their own beside the same plugins in threads of the server."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop
from bench import encoder, frame, pricing, servers
from bench.frame import Case, Figure
from bench.load import PREDICT, Call, Load, connection, drive, measured
from bench.texts import shop_texts


@dataclass(frozen=True)
class Lane:
    """One way of isolation under load; latencies in microseconds as the caller sees them, without retries."""

    rate: float
    cpu_us: float
    median: float
    p99: float


FIGURES: dict[str, Figure[Lane]] = {
    "process_median": Figure("process, median µs", 0, lambda process, _: process.median),
    "inline_median": Figure("inline, median µs", 0, lambda _, inline: inline.median),
    "added_median": Figure("added, median µs", 0, lambda process, inline: process.median - inline.median),
    "process_p99": Figure("process, p99 µs", 0, lambda process, _: process.p99),
    "inline_p99": Figure("inline, p99 µs", 0, lambda _, inline: inline.p99),
    "added_p99": Figure("added, p99 µs", 0, lambda process, inline: process.p99 - inline.p99),
    "process_rate": Figure("process, calls/s", 0, lambda process, _: process.rate),
    "inline_rate": Figure("inline, calls/s", 0, lambda _, inline: inline.rate),
    "rate_ratio": Figure("ratio of calls/s", 2, lambda process, inline: process.rate / inline.rate),
    "process_us": Figure("process, server µs of CPU", 0, lambda process, _: process.cpu_us),
    "inline_us": Figure("inline, server µs of CPU", 0, lambda _, inline: inline.cpu_us),
}


@dataclass(frozen=True)
class Side:
    """One server and the connection to it."""

    server: servers.Server
    call: Call

    async def round(self, requests: Sequence[bytes], calls: int, in_flight: int) -> tuple[Lane, list[bytes]]:
        """One measured round, with the answers in the order of the calls."""
        latencies: list[float] = []

        async def timed(payload: bytes) -> bytes:
            begin = time.perf_counter()
            answer = await self.call(payload)
            latencies.append((time.perf_counter() - begin) * 1e6)
            return answer

        async def work(count: int) -> Load:
            latencies.clear()
            return await drive(timed, requests, calls=count, in_flight=in_flight)

        figures, load = await measured(self.server, work, calls)
        median, p99 = np.percentile(latencies, (50, 99))
        return Lane(figures.rate, figures.cpu_us, float(median), float(p99)), load.answers


@dataclass(frozen=True)
class Work:
    """Requests of one model; `check` takes both sides' answers and raises RuntimeError when they are not true."""

    model: str
    requests: Sequence[bytes]
    check: Callable[[Sequence[bytes], Sequence[bytes]], None]


def main() -> None:
    """Measure and print."""
    asked = frame.arguments(__doc__, rounds=9, of="the two servers", calls=(6000, "calls per round at 64 in flight"))
    cases = uvloop.run(measure(asked.store, asked.rounds, asked.calls))
    frame.show("isolation", __doc__, cases, FIGURES, as_json=asked.json)


async def measure(store: Path | None, rounds: int, calls: int) -> list[Case]:
    """Two servers over one store, loaded in turn: one idles while the other works."""
    with (
        servers.mercato(store, "--isolation", "process") as process,
        servers.mercato(store, "--isolation", "inline") as inline,
    ):
        for server in (process, inline):
            server.event("ready")
        rows = pricing.payloads(process.address)
        texts = [encoder.request(text).SerializeToString() for text in shop_texts()]
        async with connection(process.address, PREDICT) as to_process, connection(inline.address, PREDICT) as to_inline:
            sides = Side(process, to_process), Side(inline, to_inline)
            linear, embed = Work("linear", rows, same_prices), Work("encoder", texts, same_embeddings)
            return [
                await _alternate(linear, sides, rounds, calls // 3, in_flight=1),
                await _alternate(linear, sides, rounds, calls, in_flight=64),
                await _alternate(embed, sides, rounds, calls // 20, in_flight=encoder.CALLERS),
            ]


async def _alternate(work: Work, sides: tuple[Side, Side], rounds: int, calls: int, *, in_flight: int) -> Case:
    name, pairs = f"{work.model}, {in_flight} in flight", []
    for _ in frame.turns(name, rounds):
        (process, isolated), (inline, shared) = [await side.round(work.requests, calls, in_flight) for side in sides]
        work.check(isolated, shared)
        pairs.append((process, inline))
    return frame.case(name, pairs, FIGURES)


def same_prices(isolated: Sequence[bytes], shared: Sequence[bytes]) -> None:
    """Every answer of either side is y = 2x."""
    for answers in (isolated, shared):
        pricing.verify(answers)


def same_embeddings(isolated: Sequence[bytes], shared: Sequence[bytes]) -> None:
    """Both sides gave the same embeddings, within what batches of other padding make of them."""
    worst = float(np.abs(encoder.embeddings(isolated) - encoder.embeddings(shared)).max())
    if not worst <= encoder.TOLERANCE:
        raise RuntimeError(f"the embeddings of the two sides differ by {worst:g}")


if __name__ == "__main__":
    main()
