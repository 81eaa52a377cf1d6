"""`make bench-overload`: goodput of both models at multiples of their capacity, the time of refusals, the way back."""

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop
from bench import encoder, open_loop, pricing, report, servers
from bench.load import PREDICT, capacity, connection
from bench.open_loop import Flow, Names, Phase, Records, percentile_ms
from bench.servers import Server
from bench.texts import shop_texts
from grpc_health.v1 import health_pb2
from rich.table import Table

CHECK = "/grpc.health.v1.Health/Check"
CHECKS = 10
"""Health checks a second, each with a deadline of so many seconds."""
CHECK_DEADLINE = 5.0
IN_FLIGHT = 64
WINDOW = 0.5
RECOVERED = 0.95
"""Share of the calls due in a window of so many seconds that a server which has recovered answers in time."""
SHED = ("CANCELLED", "UNAVAILABLE", open_loop.UNSENT)
"""The first two are how gRPC itself drops calls before the server has come to accept them."""


@dataclass(frozen=True)
class Subject:
    """A model under overload, in steps that are multiples of its capacity.

    `verify` raises RuntimeError unless the answers to the payloads with these numbers are true. `calls` for each
    second of a step measure the capacity.
    """

    model: str
    payloads: Sequence[bytes]
    verify: Callable[[Sequence[int], Sequence[bytes]], None]
    deadline: float
    steps: Sequence[float]
    calls: int
    processes: int


@dataclass(frozen=True)
class Step:
    """Calls per second of one step, times in milliseconds, None of nothing.

    `refused` has what the server refused, by reason; `late` were answered or given up after their deadline; `other`
    has what else failed, by status. Refusals count from when they were sent, all else from when it was due.
    """

    times: float
    offered: float
    goodput: float
    refused: dict[str, float]
    late: float
    other: dict[str, float]
    p50_ms: float | None
    p99_ms: float | None
    refusal_p50_ms: float | None
    refusal_p99_ms: float | None
    send_p99_ms: float | None


@dataclass(frozen=True)
class Curve:
    """The steps of one model in order. `peak` is the best goodput; `recovery_s` is None when it did not recover."""

    model: str
    deadline_s: float
    capacity: float
    steps: list[Step]
    peak: float
    recovery_s: float | None
    checks: int
    checks_failed: int
    check_p99_ms: float | None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="length of each step")
    asked = report.arguments(parser)
    curves = measure(asked.store, asked.seconds)
    report.show([_table(curve) for curve in curves], {"overload": curves}, as_json=asked.json)


def measure(store: Path | None, seconds: int) -> list[Curve]:
    """One server, its models one after the other."""
    with servers.mercato(store) as server:
        server.event("ready")
        subjects = uvloop.run(_encoder(server.address, store)), _pricing(server.address)
        return [_curve(server, subject, seconds) for subject in subjects]


async def _encoder(address: str, store: Path | None) -> Subject:
    texts = shop_texts()
    async with connection(address, PREDICT) as call:
        expected = encoder.InProcess(await encoder.artifact(call, store), texts).graph_only(1)
    return Subject(
        encoder.MODEL,
        [encoder.request(text).SerializeToString() for text in texts],
        lambda numbers, answers: encoder.verify(answers, expected[numbers]),
        deadline=1.0,
        steps=(0.8, 1.0, 2.0, 3.0, 0.8),
        calls=96,
        processes=1,
    )


def _pricing(address: str) -> Subject:
    return Subject(
        pricing.MODEL,
        pricing.payloads(address),
        pricing.verify_some,
        deadline=0.2,
        steps=(0.5, 1.0, 1.5, 2.0, 3.0, 0.5),
        calls=2000,
        processes=2,
    )


def _curve(server: Server, subject: Subject, seconds: int) -> Curve:
    rate = uvloop.run(_capacity(server.address, subject, subject.calls * seconds // 3))
    flow = Flow(subject.payloads, [Phase(times * rate, seconds) for times in subject.steps], subject.deadline)
    loads = [[part] for part in flow.split(subject.processes)]
    *parts, [checks] = open_loop.run(subject.model, server.address, [*loads, [_checks(flow.seconds)]])
    calls = Records.join([part for [part] in parts])
    _verify(subject, calls)
    steps = [_step(calls, times, seconds, number) for number, times in enumerate(subject.steps)]
    waited = checks.ended - checks.due
    return Curve(
        subject.model,
        subject.deadline,
        rate,
        steps,
        peak=max(step.goodput for step in steps),
        recovery_s=recovery(calls, flow.seconds - seconds, flow.seconds),
        checks=len(checks.due),
        checks_failed=sum(not serving(answer) for answer in checks.answers),
        check_p99_ms=percentile_ms(waited, 99),
    )


async def _capacity(address: str, subject: Subject, calls: int) -> float:
    async with connection(address, PREDICT) as call:
        return await capacity(call, subject.payloads, calls=calls, in_flight=IN_FLIGHT)


def _checks(seconds: float) -> Flow:
    message = health_pb2.HealthCheckRequest().SerializeToString()
    return Flow([message], [Phase(CHECKS, seconds)], CHECK_DEADLINE, gaps="even", method=CHECK)


def serving(answer: bytes) -> bool:
    """Whether a health check was answered, and with SERVING."""
    return bool(answer) and health_pb2.HealthCheckResponse.FromString(answer).status == 1


def _verify(subject: Subject, calls: Records) -> None:
    """Raise RuntimeError when an answer is not true, or a call failed for another reason than the load."""
    unexpected = set(calls.status.tolist()) - {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", *SHED}
    if unexpected:
        raise RuntimeError(f"{subject.model}: calls under overload ended with {', '.join(sorted(unexpected))}")
    answered = np.flatnonzero(calls.ok)
    subject.verify(calls.payload[answered].tolist(), [calls.answers[number] for number in answered])


def _step(calls: Records, times: float, seconds: float, number: int) -> Step:
    due = calls.between(number * seconds, (number + 1) * seconds)
    is_refused = due.status == "RESOURCE_EXHAUSTED"
    refusals = (due.ended - due.sent)[is_refused]
    waited = (due.ended - due.due)[due.ok]
    return Step(
        times,
        offered=len(due.due) / seconds,
        goodput=int(due.good.sum()) / seconds,
        refused=_rates(due.reason[is_refused], seconds),
        late=int((due.ok & ~due.good).sum() + (due.status == "DEADLINE_EXCEEDED").sum()) / seconds,
        other=_rates(due.status[np.isin(due.status, SHED)], seconds),
        p50_ms=percentile_ms(waited, 50),
        p99_ms=percentile_ms(waited, 99),
        refusal_p50_ms=percentile_ms(refusals, 50),
        refusal_p99_ms=percentile_ms(refusals, 99),
        send_p99_ms=percentile_ms(due.sent - due.due, 99),
    )


def _rates(names: Names, seconds: float) -> dict[str, float]:
    return {name: count / seconds for name, count in sorted(Counter(names.tolist()).items())}


def recovery(calls: Records, begin: float, end: float) -> float | None:
    """Seconds from `begin` until every window up to `end` has its share of calls answered in time; None if none has."""
    starts = np.arange(begin, end - WINDOW / 2, WINDOW)
    windows = [calls.between(start, start + WINDOW) for start in starts]
    bad = [number for number, window in enumerate(windows) if window.good.sum() < RECOVERED * len(window.due)]
    healthy = bad[-1] + 1 if bad else 0
    return healthy * WINDOW if healthy < len(windows) else None


def _table(curve: Curve) -> Table:
    steps = curve.steps
    title = f"{curve.model}: capacity {curve.capacity:.0f}/s with {IN_FLIGHT} in flight, deadline {curve.deadline_s} s"
    table = Table("calls per second", *(f"{step.times}x" for step in steps), title=title)
    table.add_row("offered", *(f"{step.offered:.0f}" for step in steps))
    table.add_row("goodput: answered in time", *(f"{step.goodput:.0f}" for step in steps))
    table.add_row("goodput over peak", *(f"{step.goodput / curve.peak:.2f}" for step in steps))
    for reason in _all(step.refused for step in steps):
        table.add_row(f"refused, {reason}", *(f"{step.refused.get(reason, 0):.0f}" for step in steps))
    table.add_row("late", *(f"{step.late:.0f}" for step in steps))
    for status in _all(step.other for step in steps):
        table.add_row(status, *(f"{step.other.get(status, 0):.0f}" for step in steps))
    for title, key in _TIMES.items():
        table.add_row(title, *(_ms(getattr(step, key)) for step in steps))
    table.add_section()
    table.add_row("recovered after, seconds", "never" if curve.recovery_s is None else f"{curve.recovery_s:.1f}")
    table.add_row("health checks, failed", f"{curve.checks}, {curve.checks_failed}")
    table.add_row("health check, p99 ms", _ms(curve.check_p99_ms))
    return table


_TIMES = {
    "answer, p50 ms": "p50_ms",
    "answer, p99 ms": "p99_ms",
    "refusal, p50 ms": "refusal_p50_ms",
    "refusal, p99 ms": "refusal_p99_ms",
    "sent behind time, p99 ms": "send_p99_ms",
}


def _all(rates: Iterable[dict[str, float]]) -> list[str]:
    return sorted({name for each in rates for name in each})


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    main()
