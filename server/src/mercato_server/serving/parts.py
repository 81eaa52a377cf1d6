"""A request larger than a batch: cut into parts that are run by themselves, its answer put together from theirs."""

import asyncio
from collections.abc import Mapping, Sequence

from mercato_plugin import BatchPolicy
from mercato_server.contract.receipt import Receipt, together
from mercato_server.serving.batch import concatenated
from mercato_server.serving.request import Answer, Request, Submit


def cut(request: Request, policy: BatchPolicy) -> list[slice]:
    """The rows of each part: in order, and as many as fit a batch; one row that alone passes a limit is a part."""
    most_cost = policy.max_cost
    if most_cost is None or request.costs is None:
        rows = policy.max_rows
        if most_cost is not None and request.cost:
            rows = max(1, min(rows, most_cost * request.rows // request.cost))
        return [slice(start, min(start + rows, request.rows)) for start in range(0, request.rows, rows)]
    return _cut_by_cost(request.costs.tolist(), policy.max_rows, most_cost)


def _cut_by_cost(costs: Sequence[int], max_rows: int, max_cost: int) -> list[slice]:
    parts, start, held = [], 0, 0
    for row, cost in enumerate(costs):
        if row > start and (row - start == max_rows or held + cost > max_cost):
            parts.append(slice(start, row))
            start, held = row, 0
        held += cost
    return [*parts, slice(start, len(costs))]


class Parts:
    """The parts of one request under way; `future` has the whole answer, or the error of the first part that failed.

    Cancelling it takes back the parts that do not run yet, and so does an error.
    """

    def __init__(self, request: Request, slices: Sequence[slice], submit: Submit) -> None:
        self._request = request
        self.future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._parts = [submit(request.take(rows)) for rows in slices]
        self._left = len(self._parts)
        self.future.add_done_callback(self._ended)
        for part in self._parts:
            part.add_done_callback(self._landed)

    def _landed(self, part: "asyncio.Future[Answer]") -> None:
        error = None if part.cancelled() else part.exception()
        self._left -= 1
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        elif not self._left:
            self.future.set_result(self._whole([part.result() for part in self._parts]))

    def _ended(self, future: "asyncio.Future[Answer]") -> None:
        for part in self._parts:
            part.cancel()

    def _whole(self, answers: Sequence[Answer]) -> Answer:
        outputs = {name: concatenated([answer.outputs[name] for answer in answers]) for name in answers[0].outputs}
        receipts = [answer.receipt for answer in answers]
        return Answer(outputs, together(receipts)._replace(truncations=_truncations(receipts, self._request)))


def _truncations(receipts: Sequence[Receipt], request: Request) -> Mapping[str, int]:
    cut_rows = {name: sum(r.truncations.get(name, 0) for r in receipts) for r in receipts for name in r.truncations}
    return {n: max(cut_rows.get(n, 0), request.truncations.get(n, 0)) for n in cut_rows.keys() | request.truncations}
