"""Memory of a server under mixed bad and good calls: samples, and the line through them.

`python -m tests.server.bad.memory` starts a server of its own, sends 2 000 calls and prints the slope.
"""

import argparse
import itertools
import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tests.server.bad.messages import GOOD, Row
from tests.server.bad.messages_page import ROWS
from tests.server.calls import pricing, texts
from tests.server.running import Running, environment

CALLS = 2_000
EVERY = 20
# Rows above this make the allocator keep and return tens of megabytes, which hides a slope; each has a test of its own.
SMALL = 100_000


@dataclass(frozen=True)
class Growth:
    """What a server held while it answered `calls` calls, `refused` of them with a status.

    `slope` is bytes per call by least squares over the samples, `error` its standard error, `spread` what a sample
    lies off the line (standard deviation, bytes).
    """

    calls: int
    refused: int
    first: int
    last: int
    slope: float
    error: float
    spread: float


def mixture(seed: int = 0) -> Iterator[Row]:
    """Without end: every small row in random order, each followed by a good call of one row, of 64, or of text."""
    small = [row for row in ROWS if row.shared and len(row.data) < SMALL]
    good = (GOOD, pricing([[float(n)] for n in range(64)], want_receipt=True), texts(b"red running shoes"))
    goods = itertools.cycle(Row(0, "good", data) for data in good)
    chosen = random.Random(seed)  # noqa: S311 - an order, not a secret
    while True:
        for row in chosen.sample(small, len(small)):
            yield row
            yield next(goods)


def measure(running: Running, channel: grpc.Channel, calls: int, warm_up: int) -> Growth:
    """Send `warm_up` calls unseen, then `calls` with a sample after every 20th."""
    sent = mixture()
    send(channel, sent, warm_up)
    samples, refused = [], 0
    for _ in range(calls // EVERY):
        refused += send(channel, sent, EVERY)
        samples.append(running.memory())
    at = np.arange(1, len(samples) + 1) * float(EVERY)
    (slope, start), covariance = np.polyfit(at, samples, 1, cov=True)
    off = np.asarray(samples) - (slope * at + start)
    return Growth(
        calls, refused, samples[0], samples[-1], float(slope), float(covariance[0, 0] ** 0.5), float(off.std())
    )


def send(channel: grpc.Channel, rows: Iterator[Row], count: int) -> int:
    """How many of the next `count` calls were refused."""
    refused = 0
    for row in itertools.islice(rows, count):
        try:
            call: Any = channel.unary_unary(row.method)
            call(row.data, timeout=20, metadata=row.metadata)
        except grpc.RpcError:
            refused += 1
    return refused


def main() -> None:
    """Measure a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--warm-up", type=int, default=CALLS)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        running = Running(home / "store", home / "work", environment(home / "home"))
        try:
            running.ready()
            with grpc.insecure_channel(running.address) as channel:
                growth = measure(running, channel, asked.calls, asked.warm_up)
        finally:
            running.kill()
    print(json.dumps(asdict(growth)) if asked.json else told(growth))  # noqa: T201 - what it is for


def told(growth: Growth) -> str:
    """One line for people."""
    return (
        f"{growth.calls} calls, {growth.refused} refused: {growth.first / 2**20:.1f} to {growth.last / 2**20:.1f} MiB, "
        f"slope {growth.slope:.0f} bytes a call (standard error {growth.error:.0f}), "
        f"samples {growth.spread / 1024:.0f} KiB off the line"
    )


if __name__ == "__main__":
    main()
