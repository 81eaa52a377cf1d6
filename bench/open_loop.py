"""Open-loop load: send times fixed beforehand, processes of its own, every call counted from when it was due."""

from __future__ import annotations

import base64
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from bench import frame
from bench.load import PREDICT

Floats = npt.NDArray[np.float64]
Names = npt.NDArray[np.str_]

UNSENT = "UNSENT"
"""The status of a call whose deadline had passed before the generator came to send it."""
LEAD = 0.2
"""Seconds between the word to begin and the first call, in which every process gets the word."""
GRACE = 30.0


@dataclass(frozen=True)
class Phase:
    """A stretch of load: calls per second, and its length in seconds."""

    rate: float
    seconds: float


@dataclass(frozen=True)
class Flow:
    """Calls of one kind; call number i carries payload i modulo their count.

    A call has `deadline` seconds from when it is due. What is left of a `background` flow when the others of its
    process have ended is cancelled.
    """

    payloads: Sequence[bytes]
    phases: Sequence[Phase]
    deadline: float
    gaps: Literal["exponential", "even"] = "exponential"
    seed: int = 1
    method: str = PREDICT
    background: bool = False

    @property
    def seconds(self) -> float:
        """How long calls are due."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def most_in_flight(self) -> float:
        """Calls in flight if each takes as long as it may."""
        return max(phase.rate for phase in self.phases) * self.deadline

    def due(self) -> Floats:
        """When each call is due, in seconds from the begin; the same for the same seed."""
        chance, begin, times = np.random.default_rng(self.seed), 0.0, []
        for phase in self.phases:
            times.append(begin + self._due(phase, chance))
            begin += phase.seconds
        return np.concatenate(times)

    def split(self, processes: int) -> list[Flow]:
        """The same load in as many parts, each with gaps of its own."""
        phases = [Phase(phase.rate / processes, phase.seconds) for phase in self.phases]
        return [replace(self, phases=phases, seed=self.seed + part) for part in range(processes)]

    def _due(self, phase: Phase, chance: np.random.Generator) -> Floats:
        count = phase.rate * phase.seconds
        if self.gaps == "even":
            return np.arange(round(count)) / phase.rate
        # So many times drawn evenly have exponential gaps when put in order.
        return np.sort(chance.uniform(0.0, phase.seconds, chance.poisson(count)))


@dataclass(frozen=True)
class Records:
    """The calls of one flow, one place in each array per call; times are seconds from the begin of the load.

    `payload` is the index of what was sent. `status` is the name of the gRPC status or UNSENT, `reason` that of its
    ErrorInfo or "", `pushback_ms` nan where none was told. `answers` are empty where `status` is not OK.
    """

    payload: npt.NDArray[np.int64]
    due: Floats
    sent: Floats
    ended: Floats
    deadline: Floats
    status: Names
    reason: Names
    pushback_ms: Floats
    answers: list[bytes]

    @classmethod
    def join(cls, parts: Sequence[Records]) -> Records:
        """The calls of several processes as one flow."""
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
        return cls(**arrays, answers=[answer for part in parts for answer in part.answers])

    def between(self, begin: float, end: float) -> Records:
        """Those that were due in a span of time."""
        kept = np.flatnonzero((self.due >= begin) & (self.due < end))
        arrays = {name: getattr(self, name)[kept] for name in _ARRAYS}
        return Records(**arrays, answers=[self.answers[number] for number in kept])

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """Which were answered, in time or not."""
        return np.equal(self.status, "OK")

    @property
    def good(self) -> npt.NDArray[np.bool_]:
        """Which were answered within their deadline."""
        return self.ok & (self.ended <= self.due + self.deadline)

    def save(self, path: Path) -> None:
        """Write them as arrays of numbers and fixed strings."""
        joined = np.frombuffer(b"".join(self.answers), np.uint8)
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        np.savez(path, allow_pickle=False, bytes=joined, sizes=[len(a) for a in self.answers], **arrays)

    @classmethod
    def load(cls, path: Path) -> Records:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            data, ends = stored["bytes"].tobytes(), np.cumsum(stored["sizes"], dtype=np.int64).tolist()
            answers = [data[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
            return cls(**{name: stored[name] for name in _ARRAYS}, answers=answers)


_ARRAYS = tuple(name for name in Records.__dataclass_fields__ if name != "answers")


def percentile_ms(seconds: Floats, q: float) -> float | None:
    """A percentile in milliseconds; None of nothing."""
    return float(np.percentile(seconds, q)) * 1e3 if len(seconds) else None


def run(what: str, address: str, processes: Sequence[Sequence[Flow]]) -> list[list[Records]]:
    """Put the flows of all processes on the server at once; what became of each flow of each process.

    Flows of a process share its connections. Raises RuntimeError when a process fails.
    """
    with tempfile.TemporaryDirectory(prefix="mercato-bench-") as place, ExitStack() as stack:
        folders = [Path(place, str(number)) for number in range(len(processes))]
        plans = [_plan(address, flows, folder) for flows, folder in zip(processes, folders, strict=True)]
        children = [stack.enter_context(_started(plan)) for plan in plans]
        for child in children:
            _expect(child, "ready")
        _begin(children)
        _await(what, children, [flow for flows in processes for flow in flows])
        return [
            [Records.load(folder / f"{number}.npz") for number in range(len(flows))]
            for flows, folder in zip(processes, folders, strict=True)
        ]


def _plan(address: str, flows: Sequence[Flow], folder: Path) -> dict[str, Any]:
    folder.mkdir()
    packed = [
        asdict(flow) | {"payloads": [base64.b64encode(data).decode() for data in flow.payloads]} for flow in flows
    ]
    return {"address": address, "folder": str(folder), "flows": packed}


def unpacked(flow: dict[str, Any]) -> Flow:
    """A flow of the plan that a process has read."""
    payloads = [base64.b64decode(data) for data in flow["payloads"]]
    return Flow(**flow | {"payloads": payloads, "phases": [Phase(**phase) for phase in flow["phases"]]})


@contextmanager
def _started(plan: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bench.generator"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            _tell(child, json.dumps(plan))
            yield child
        finally:
            child.kill()


def _tell(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    child.stdin.write(line + "\n")
    child.stdin.flush()


def _expect(child: subprocess.Popen[str], word: str) -> None:
    assert child.stdout is not None
    if child.stdout.readline() != f"{word}\n":
        raise RuntimeError(f"a load generator ended with code {child.wait()} before it was {word}")


def _begin(children: Sequence[subprocess.Popen[str]]) -> None:
    """The clock is the same in all processes of a machine."""
    begin = time.perf_counter() + LEAD
    for child in children:
        _tell(child, repr(begin))


def _await(what: str, children: Sequence[subprocess.Popen[str]], flows: Sequence[Flow]) -> None:
    for _ in frame.turns(what, math.ceil(max(flow.seconds for flow in flows))):
        time.sleep(1.0)
        if any(child.poll() for child in children):
            break
    codes = [child.wait(max(flow.deadline for flow in flows) + GRACE) for child in children]
    if any(codes):
        raise RuntimeError(f"the load generators ended with codes {codes}")
