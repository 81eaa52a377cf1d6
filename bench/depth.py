"""`make bench-depth`: CPU time that the queue before a lane takes for a request, at three depths."""

import asyncio
import gc
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from bench import frame, report
from bench.report import Spread
from rich.table import Table

from mercato_plugin import BatchPolicy
from mercato_server.serving.lines import Entry
from mercato_server.serving.queue import Queue
from mercato_server.serving.request import Request

DEPTHS = (10, 1_000, 10_000)
BATCH = 8
"""Requests of a batch, of one row each; the shallowest queue fills it too."""
WAITS = {"no time passes": 0.0, "each waits for 2 s": 2.0}
"""Seconds that a request waits on average, the same at each depth; what waits gains in priority."""
CALLERS = tuple(f"10.0.0.{number}" for number in range(16))
PRIORITIES = (1, 5, 5, 5, 5, 5, 5, 9)
DEADLINES = (20.0, 60.0)
"""Seconds; nothing waits so long."""
WARM = 8
"""Rounds until what has left is let go of as fast as it comes."""
SEED = 3
ROW = {"x": np.zeros((1, 1), np.float32)}


@dataclass(frozen=True)
class Case:
    """Nanoseconds per request by depth, and as multiples of those at the first depth within each round."""

    case: str
    ns: dict[int, Spread]
    ratio: dict[int, Spread]


class Steady:
    """A queue that is kept at its depth; its clock goes on with each batch so that requests wait for `wait` seconds."""

    def __init__(self, depth: int, wait: float) -> None:
        self._chance = random.Random(SEED)  # noqa: S311 - reproducible, not secret
        self._now = 10**9
        self._step_ns = round(wait * BATCH / depth * 1e9)
        self._queue = Queue("bench", BatchPolicy(max_rows=BATCH), lambda: self._now)
        for entry in self._entries(depth):
            self._queue.add(entry)

    def ns_per_request(self, batches: int) -> float:
        """CPU time of adding and taking out so many batches, the collector of garbage held off."""
        entries = self._entries(batches * BATCH)
        gc.collect()
        gc.disable()
        begin = time.thread_time_ns()
        self._work(entries)
        used = time.thread_time_ns() - begin
        gc.enable()
        return used / len(entries)

    def _work(self, entries: Sequence[Entry]) -> None:
        queue = self._queue
        for start in range(0, len(entries), BATCH):
            taken, _ = queue.take(only_full=False)
            if len(taken) != BATCH:
                raise RuntimeError(f"a batch had {len(taken)} requests, expected {BATCH}")
            self._now += self._step_ns
            for entry in entries[start : start + BATCH]:
                queue.add(entry)

    def _entries(self, count: int) -> list[Entry]:
        """Requests that come in batches from the next step on."""
        loop = asyncio.get_running_loop()
        times = [self._now + (number // BATCH + 1) * self._step_ns for number in range(count)]
        return [Entry(self._request(since), loop.create_future(), since) for since in times]

    def _request(self, since: int) -> Request:
        chance = self._chance
        deadline = since / 1e9 + chance.uniform(*DEADLINES)
        return Request(ROW, 1, deadline, priority=chance.choice(PRIORITIES), caller=chance.choice(CALLERS))


def main() -> None:
    """Measure and print."""
    asked = frame.arguments(__doc__, rounds=7, of="the depths", batches=(2500, "batches at each depth and round"))
    cases = asyncio.run(measure(asked.rounds, asked.batches))
    report.show([_table(cases)], {"depth": cases}, as_json=asked.json)


async def measure(rounds: int, batches: int) -> list[Case]:
    """The depths in turn; needs the loop only because requests have futures."""
    return [_case(name, wait, rounds, batches) for name, wait in WAITS.items()]


def _case(name: str, wait: float, rounds: int, batches: int) -> Case:
    queues = {depth: Steady(depth, wait) for depth in DEPTHS}
    turns = frame.turns(name, WARM + rounds)
    found = [{depth: queue.ns_per_request(batches) for depth, queue in queues.items()} for _ in turns][WARM:]
    first = DEPTHS[0]
    return Case(
        name,
        {depth: Spread.of([each[depth] for each in found]) for depth in DEPTHS},
        {depth: Spread.of([each[depth] / each[first] for each in found]) for depth in DEPTHS},
    )


def _table(cases: Sequence[Case]) -> Table:
    table = Table("median (smallest to largest)", *(f"depth {depth}" for depth in DEPTHS), title=__doc__)
    for case in cases:
        table.add_row(f"{case.case}, ns per request", *(spread.show(0) for spread in case.ns.values()))
        table.add_row(f"{case.case}, ratio", *(spread.show(2) for spread in case.ratio.values()))
    return table


if __name__ == "__main__":
    main()
