"""`make bench-overhead`: server CPU per Predict of pricing.linear beside a bare grpc.aio echo of the same bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop
from bench import echo, frame, servers
from bench.frame import Case, Figure
from bench.load import PREDICT, Call, Load, Measured, connection, drive, measured
from bench.pricing import payloads, verify

FIGURES: dict[str, Figure[Measured]] = {
    "mercato_us": Figure("mercato, µs of CPU", 0, lambda ours, _: ours.cpu_us),
    "echo_us": Figure("echo, µs of CPU", 0, lambda _, bare: bare.cpu_us),
    "ratio": Figure("ratio", 2, lambda ours, bare: ours.cpu_us / bare.cpu_us),
    "mercato_rate": Figure("mercato, calls/s", 0, lambda ours, _: ours.rate),
    "echo_rate": Figure("echo, calls/s", 0, lambda _, bare: bare.rate),
}


@dataclass(frozen=True)
class Side:
    """One server under load."""

    server: servers.Server
    call: Call

    async def round(self, requests: Sequence[bytes], calls: int, in_flight: int) -> tuple[Measured, Load]:
        """One measured round."""
        return await measured(
            self.server, lambda count: drive(self.call, requests, calls=count, in_flight=in_flight), calls
        )


def main() -> None:
    """Measure and print."""
    asked = frame.arguments(__doc__, rounds=9, of="the two servers", calls=(6000, "calls per round at 64 in flight"))
    cases = uvloop.run(measure(asked.store, asked.rounds, asked.calls))
    frame.show("overhead", __doc__, cases, FIGURES, as_json=asked.json)


async def measure(store: Path | None, rounds: int, calls: int) -> list[Case]:
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
    ours: Side, bare: Side, requests: Sequence[bytes], rounds: int, calls: int, *, in_flight: int
) -> Case:
    name, pairs = f"{in_flight} in flight", []
    for _ in frame.turns(name, rounds):
        figures, load = await ours.round(requests, calls, in_flight)
        verify(load.answers)
        pairs.append((figures, (await bare.round(requests, calls, in_flight))[0]))
    return frame.case(name, pairs, FIGURES)


if __name__ == "__main__":
    main()
