"""`make bench-swap`: a version swapped for another one under load, its artifact already exported."""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import uvloop
from bench import frame, plugin, servers
from bench.frame import Case, Figure
from bench.load import PREDICT, Call, Paced, connection, pace
from bench.pricing import request, y_of
from bench.shift import DISTRIBUTION, MODEL, Source

from mercato.v1 import admin_pb2, prediction_pb2
from mercato.v1.admin_pb2_grpc import AdminServiceStub

BEFORE = 1.5
"""Seconds of load before a swap; the last one is the yardstick."""
AFTER = 0.5
TIMEOUT = 120.0
VALUES = tuple(float(number) for number in range(64))
NO_RETRIES = ("grpc.enable_retries", 0)


@dataclass(frozen=True)
class Window:
    """Calls that were due in one span of time; `failed` counts over the whole round."""

    seconds: float
    p99: float
    failed: int


FIGURES: dict[str, Figure[Window]] = {
    "failed": Figure("failed calls", 0, lambda _, during: during.failed),
    "before_p99": Figure("p99 in the second before, ms", 2, lambda before, _: before.p99),
    "during_p99": Figure("p99 during the swap, ms", 2, lambda _, during: during.p99),
    "p99_ratio": Figure("ratio", 2, lambda before, during: during.p99 / before.p99),
    "seconds": Figure("swap, seconds", 2, lambda _, during: during.seconds),
}


def main() -> None:
    """Measure and print."""
    asked = frame.arguments(__doc__, rounds=6, of="two sources", rate=(300, "calls per second"))
    cases = uvloop.run(measure(asked.store, asked.rounds, asked.rate))
    frame.show("swap", __doc__, cases, FIGURES, as_json=asked.json)


async def measure(store: Path | None, rounds: int, rate: int) -> list[Case]:
    """A server of its own for each way of swapping."""
    return [
        await _swaps("same number", store, (Source(1, 1.0), Source(1, 2.0)), rounds, rate),
        await _swaps("new number, label moved", store, (Source(1, 1.0), Source(2, 2.0)), rounds, rate),
    ]


async def _swaps(name: str, store: Path | None, sources: tuple[Source, Source], rounds: int, rate: int) -> Case:
    """Swap the two sources for each other, in turn, starting from the first."""
    with tempfile.TemporaryDirectory(prefix="mercato-bench-") as place:
        folder = Path(place)
        with _served(folder, store or folder / "store", sources) as server:
            async with (
                connection(server.address, PREDICT, NO_RETRIES) as call,
                grpc.aio.insecure_channel(f"unix:{folder}/admin.sock") as admin,
            ):
                swap = Swap(folder, AdminServiceStub(admin), call, rate)
                turns = frame.turns(name, rounds)
                pairs = [await swap.round(sources[turn % 2], sources[1 - turn % 2]) for turn in turns]
    return frame.case(name, pairs, FIGURES)


@contextmanager
def _served(folder: Path, store: Path, sources: Sequence[Source]) -> Iterator[servers.Server]:
    """A server of the first source, with both exported beforehand."""
    env = plugin.environment(folder, DISTRIBUTION)
    for source in reversed(sources):
        source.install(folder)
        export = [servers.MERCATO, "export", MODEL, "--store", str(store)]
        subprocess.run(export, env=servers.environment(env), check=True, stdout=subprocess.DEVNULL)
    with servers.mercato(store, "--admin-listen", f"unix:{folder}/admin.sock", env=env) as server:
        server.event("ready")
        yield server


class Swap:
    """One server under a steady load of callers without retries, and its operator."""

    def __init__(self, folder: Path, admin: AdminServiceStub, call: Call, rate: int) -> None:
        self._folder = folder
        self._admin: Any = admin
        self._call = call
        self._rate = rate
        self._payloads = [request(MODEL, x).SerializeToString() for x in VALUES]

    async def round(self, old: Source, new: Source) -> tuple[Window, Window]:
        """One swap: the calls of the second before it, and those while it lasts."""
        if old.version != new.version:
            await self._label(old.version)
        new.install(self._folder)
        stop = asyncio.Event()
        load = asyncio.create_task(
            pace(self._call, self._payloads, rate=self._rate, stop=stop, seconds=BEFORE + AFTER + TIMEOUT)
        )
        await asyncio.sleep(BEFORE)
        begin = time.perf_counter()
        await self._change(old, new)
        end = time.perf_counter()
        await asyncio.sleep(AFTER)
        stop.set()
        calls = await load
        verify(calls, old, new, begin, end)
        if old.version != new.version:
            await self._admin.Unload(admin_pb2.UnloadRequest(model=MODEL, version=old.version), timeout=TIMEOUT)
        failed = sum(1 for call in calls if call.error)
        return _window(calls, begin - 1.0, begin, failed), _window(calls, begin, end, failed)

    async def _change(self, old: Source, new: Source) -> None:
        async for _ in self._admin.Load(admin_pb2.LoadRequest(plugin=DISTRIBUTION), timeout=TIMEOUT):
            pass
        if old.version != new.version:
            await self._label(new.version)

    async def _label(self, version: int) -> None:
        await self._admin.SetLabel(
            admin_pb2.SetLabelRequest(model=MODEL, label="stable", version=version), timeout=TIMEOUT
        )


def _window(calls: Sequence[Paced], begin: float, end: float, failed: int) -> Window:
    waited = [(call.ended - call.due) * 1e3 for call in calls if begin <= call.due < end]
    return Window(end - begin, float(np.percentile(waited, 99)), failed)


def verify(calls: Sequence[Paced], old: Source, new: Source, begin: float, end: float) -> None:
    """Raise RuntimeError unless every answer is of the source that its version and digest name, and of the right one.

    What ended before the swap began is the old source's, what was due after its end the new one's.
    """
    sources: dict[str, Source] = {}
    for number, call in enumerate(calls):
        if call.error:
            continue
        answer = prediction_pb2.PredictResponse.FromString(call.answer)
        possible = [old] if call.ended < begin else [new] if call.due > end else [old, new]
        shift = y_of(answer) - VALUES[number % len(VALUES)]
        found = next((s for s in possible if (s.version, s.shift) == (answer.model.version, shift)), None)
        if found is None or sources.setdefault(answer.model.digest, found) != found:
            raise RuntimeError(f"call {number}: version {answer.model.version} answered x + {shift}, which is not its")
    if len(sources) != 2:
        raise RuntimeError(f"got answers of {len(sources)} artifacts, expected those of both sources")


if __name__ == "__main__":
    main()
