"""A cache before runs that end only when told; the model multiplies by ten, and a row is its number."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tests.server.serving.puppet import FAR, settle

from mercato_server.contract.batch import Array
from mercato_server.contract.receipt import CacheOutcome, Receipt, ReleaseReason
from mercato_server.serving.cache import RowCache
from mercato_server.serving.request import Answer, Request

Future = asyncio.Future[Answer]

# What one row of one number counts for in the cache.
ROW = 648


@dataclass
class Started:
    """One request that was to be run, and its end."""

    request: Request
    end: Future

    @property
    def ids(self) -> list[float]:
        return numbers(self.request.inputs["x"])


class Scene:
    """One cache, and what it has had run so far."""

    def __init__(self, max_bytes: int = 1 << 20) -> None:
        self.started: list[Started] = []
        self.is_short = True
        self.cache = RowCache("shop.tiny", "digest", max_bytes, self.run, lambda: self.is_short)
        self.refusal: Exception | None = None

    def run(self, request: Request) -> Future:
        if self.refusal:
            raise self.refusal
        self.started.append(Started(request, asyncio.get_running_loop().create_future()))
        return self.started[-1].end

    @property
    def ids(self) -> list[list[float]]:
        """The rows of each run."""
        return [run.ids for run in self.started]

    def ask(self, *ids: float, **facts: Any) -> Future:
        return submitted(self.cache, request(*ids, **facts))

    async def finish(self, place: int = -1, outputs: Mapping[str, Array] | None = None, **facts: Any) -> Answer:
        """End a run, the last one if nothing else is said; `facts` are those of its receipt."""
        run = self.started[place]
        made = receipt(**{"batch_rows": len(run.ids), **facts})
        answer = Answer(outputs or {"y": run.request.inputs["x"] * 10}, made)
        run.end.set_result(answer)
        await settle()
        return answer

    async def fail(self, error: BaseException, place: int = -1) -> None:
        self.started[place].end.set_exception(error)
        await settle()

    async def known(self, *ids: float, **facts: Any) -> None:
        """Have rows known, each from a run of its own."""
        for id in ids:
            self.ask(id)
            await self.finish(**facts)
        self.started.clear()


def submitted(cache: RowCache, request: Request) -> Future:
    """The answer, as an engine asks for it."""
    call = cache.begin(request)
    return call.future if call.future.done() else cache.run(call)


def request(*ids: float, **facts: Any) -> Request:
    return Request(**{"inputs": {"x": np.array(ids, float)[:, None]}, "rows": len(ids), "deadline": FAR, **facts})


def receipt(**facts: Any) -> Receipt:
    usual = Receipt(1, 2, 3, 4, 1, 0.0, ReleaseReason.IDLE, "cuda", started_ns=5)
    return usual._replace(**facts)


def numbers(array: Array) -> list[float]:
    found: list[float] = array.ravel().tolist()
    return found


def told(future: Future) -> list[float]:
    """The rows of an answer that is there."""
    return numbers(future.result().outputs["y"])


def outcome(future: Future) -> tuple[CacheOutcome, int]:
    """What the cache did for a request, and how many rows were not run for it."""
    receipt = future.result().receipt
    return receipt.cache, receipt.cached_rows
