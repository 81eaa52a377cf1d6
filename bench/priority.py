"""`make bench-priority`: an urgent caller of semantic.encoder beside a flood of less urgent calls, or of equal ones."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop
from bench import encoder, frame, open_loop, report, servers
from bench.load import PREDICT, capacity, connection, drive
from bench.open_loop import Flow, Phase, Records, percentile_ms
from bench.report import Spread
from bench.texts import shop_texts
from rich.table import Table

from mercato.v1.prediction_pb2 import PredictResponse

BATCH_ROWS = 16
PLENTY = 100_000
"""Nobody is refused for want of room, so that callers of equal priority wait for their turn."""
SETTINGS = {
    "MERCATO_MODELS": json.dumps({encoder.MODEL: {"batch_rows": BATCH_ROWS, "max_requests": PLENTY}}),
    "MERCATO_MAX_TOTAL_REQUESTS": str(PLENTY),
}
URGENT, DEFAULT, LEAST = 1, 5, 9
IN_FLIGHT = 64
FLOOD = 2.0
"""Multiple of the capacity."""
RATE = 5
"""Calls per second of the urgent caller."""
WARM = 2
"""Seconds of flood before the urgent caller comes, so that batches are full."""
DEADLINE = 20.0
CALLS = 192
"""Of each of three loads that measure the capacity."""
BATCHES = 24
SHORT = 24
"""As many of the shop texts, the shortest, are the urgent caller's."""


@dataclass(frozen=True)
class Waited:
    """Milliseconds from when a call was due to its answer, and calls without one."""

    p50_ms: float
    p99_ms: float
    calls: int
    failed: int

    @classmethod
    def of(cls, calls: Records) -> "Waited":
        """The figures of calls of which at least one was answered."""
        waited = (calls.ended - calls.due)[calls.ok]
        p50, p99 = percentile_ms(waited, 50), percentile_ms(waited, 99)
        if p50 is None or p99 is None:
            raise RuntimeError("the urgent caller got no answer")
        return cls(p50, p99, len(calls.due), int((~calls.ok).sum()))


@dataclass(frozen=True)
class Load:
    """What one round measured: texts per second and a full batch without other callers, the calls of each load.

    `flooded_ms` is a long batch of the flood beside which the urgent caller goes first, the 99th of 100.
    """

    rate: float
    batch_ms: float
    flooded_ms: float
    calls: Sequence[Records]

    @classmethod
    def join(cls, rounds: Sequence["Load"]) -> "Load":
        """The calls of all rounds together."""
        calls = [Records.join(calls) for calls in zip(*(each.calls for each in rounds), strict=True)]
        return cls(
            statistics.median(each.rate for each in rounds),
            statistics.median(each.batch_ms for each in rounds),
            statistics.median(each.flooded_ms for each in rounds),
            calls,
        )


@dataclass(frozen=True)
class Round:
    """The urgent caller alone, beside a flood of the least priority, and beside one of its own.

    `added_batches` is what the flood adds to its p99, in full batches as they are without a flood, `added_flooded` in
    long ones of the flood itself; `over_equal` is that p99 as a share of the one without priorities.
    """

    rate: float
    batch_ms: float
    flooded_ms: float
    alone: Waited
    urgent: Waited
    equal: Waited
    added_batches: float
    added_flooded: float
    over_equal: float

    @classmethod
    def of(cls, load: Load) -> "Round":
        """The figures of one round, or of all together."""
        alone, urgent, equal = (Waited.of(calls) for calls in load.calls)
        added, over_equal = urgent.p99_ms - alone.p99_ms, urgent.p99_ms / equal.p99_ms
        shares = added / load.batch_ms, added / load.flooded_ms
        return cls(load.rate, load.batch_ms, load.flooded_ms, alone, urgent, equal, *shares, over_equal)


@dataclass(frozen=True)
class Figures:
    """Of the calls of all rounds together, and the spread of a figure over the rounds."""

    all: Round
    rounds: dict[str, Spread]


FIGURES = {
    "rate": ("capacity, texts/s", 0),
    "batch_ms": (f"batch of {BATCH_ROWS}, ms", 0),
    "flooded_ms": (f"batch of {BATCH_ROWS} beside the flood, p99 ms", 0),
    "added_batches": ("added to the p99, batches", 2),
    "added_flooded": ("added to the p99, batches beside the flood", 2),
    "over_equal": ("p99 over that of equal priorities", 2),
}


@dataclass(frozen=True)
class Target:
    """The server under load, and the embedding of each shop text."""

    address: str
    expected: encoder.Embeddings


def main() -> None:
    """Measure and print."""
    asked = frame.arguments(__doc__, rounds=5, of="the three loads", seconds=(8, "length of each load"))
    figures = measure(asked.store, asked.rounds, asked.seconds)
    report.show(_tables(figures), {"priority": figures}, as_json=asked.json)


def measure(store: Path | None, rounds: int, seconds: int) -> Figures:
    """One server with small batches, under the three loads in turn."""
    with servers.mercato(store, env=SETTINGS) as server:
        server.event("ready")
        target = uvloop.run(_target(server.address, store))
        loads = [_round(target, number + 1, seconds) for number in range(rounds)]
    each = [Round.of(load) for load in loads]
    spreads = {name: Spread.of([getattr(figures, name) for figures in each]) for name in FIGURES}
    return Figures(Round.of(Load.join(loads)), spreads)


async def _target(address: str, store: Path | None) -> Target:
    texts = shop_texts()
    async with connection(address, PREDICT) as call:
        return Target(address, encoder.InProcess(await encoder.artifact(call, store), texts).graph_only(1))


def _round(target: Target, number: int, seconds: int) -> Load:
    """The urgent caller's calls are due at the same times under each load."""
    rate, batch_ms = uvloop.run(_unloaded(target))
    flood = [Phase(FLOOD * rate, WARM + seconds)]
    loads = {"alone": (URGENT, None), "urgent": (URGENT, LEAST), "equal": (DEFAULT, DEFAULT)}
    calls = {name: _load(target, f"round {number}, {name}", asked, flood, number) for name, asked in loads.items()}
    return Load(rate, batch_ms, _long_batch(calls["urgent"][1]), [own for own, _ in calls.values()])


def _long_batch(flood: Sequence[Records]) -> float:
    """Milliseconds of a full batch, the 99th of 100, as the flood's receipts tell it."""
    answers = (PredictResponse.FromString(answer) for records in flood for answer in records.answers if answer)
    receipts = [answer.receipt for answer in answers if answer.receipt.batch_rows == BATCH_ROWS]
    return float(np.percentile([each.pre_ns + each.compute_ns + each.post_ns for each in receipts], 99)) / 1e6


def _load(
    target: Target, what: str, priorities: tuple[int, int | None], flood: Sequence[Phase], seed: int
) -> tuple[Records, Sequence[Records]]:
    """The calls of the urgent caller, and those of the flood if there is one."""
    texts, (urgent, flooding) = shop_texts(), priorities
    short = sorted(range(len(texts)), key=lambda place: len(texts[place]))[:SHORT]
    phases = [Phase(0, WARM), Phase(RATE, flood[0].seconds - WARM)]
    flows = [Flow(_payloads([texts[place] for place in short], urgent), phases, DEADLINE, seed=seed)]
    if flooding is not None:
        flows.append(Flow(_payloads(texts, flooding), flood, DEADLINE, seed=seed + 1, background=True))
    [[calls, *rest]] = open_loop.run(what, target.address, [flows])
    _verify(calls, target.expected[short])
    for others in rest:
        _verify(others, target.expected)
    return calls, rest


def _verify(calls: Records, expected: encoder.Embeddings) -> None:
    answered = np.flatnonzero(calls.ok)
    encoder.verify([calls.answers[number] for number in answered], expected[calls.payload[answered]])


async def _unloaded(target: Target) -> tuple[float, float]:
    """Texts per second, and milliseconds of a full batch: the median of several alone, as their receipts tell it."""
    texts = shop_texts()
    chunks = [texts[start : start + BATCH_ROWS] for start in range(0, len(texts), BATCH_ROWS)]
    async with connection(target.address, PREDICT) as call:
        rate = await capacity(call, _payloads(texts, DEFAULT), calls=CALLS, in_flight=IN_FLIGHT)
        load = await drive(call, [_payload(chunk, DEFAULT) for chunk in chunks], calls=BATCHES, in_flight=1)
    expected = target.expected.reshape(len(chunks), -1)
    encoder.verify(load.answers, expected[np.arange(BATCHES) % len(chunks)])
    receipts = [PredictResponse.FromString(answer).receipt for answer in load.answers]
    return rate, statistics.median(each.pre_ns + each.compute_ns + each.post_ns for each in receipts) / 1e6


def _payloads(texts: Sequence[str], priority: int) -> list[bytes]:
    return [_payload([text], priority) for text in texts]


def _payload(texts: Sequence[str], priority: int) -> bytes:
    request = encoder.request(*texts)
    request.priority, request.want_receipt = priority, True
    return request.SerializeToString()


def _tables(figures: Figures) -> list[Table]:
    columns = (figures.all.alone, figures.all.urgent, figures.all.equal)
    waits = Table("the urgent caller", "alone", f"priority {URGENT} beside {LEAST}", "equal priorities", title=__doc__)
    waits.add_row("p50, ms", *(f"{each.p50_ms:.0f}" for each in columns))
    waits.add_row("p99, ms", *(f"{each.p99_ms:.0f}" for each in columns))
    waits.add_row("calls", *(str(each.calls) for each in columns))
    waits.add_row("without an answer", *(str(each.failed) for each in columns))
    ratios = Table("figure", "all rounds", "by round: median (smallest to largest)")
    for name, (title, digits) in FIGURES.items():
        ratios.add_row(title, f"{getattr(figures.all, name):.{digits}f}", figures.rounds[name].show(digits))
    return [waits, ratios]


if __name__ == "__main__":
    main()
