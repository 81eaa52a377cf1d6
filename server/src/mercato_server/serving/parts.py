"""A request larger than a batch: cut into parts that are run by themselves, its answer put together from theirs."""

import asyncio
from collections.abc import Mapping, Sequence

from mercato_plugin import BatchPolicy
from mercato_server.contract.batch import concatenated
from mercato_server.contract.receipt import Receipt, together
from mercato_server.errors import RequestError
from mercato_server.serving.assembly import unmade
from mercato_server.serving.request import Answer, Request, Submit

# As many as keep the lane's two places full while others come to their turn. More at once would only hold the loop up,
# 50 us each, and fill the queue with what one caller alone waits for.
_MOST_UNDER_WAY = 8


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

    They are submitted in order, the next one as another lands. Cancelling the future takes back those that do not run
    yet and submits no more, and so does an error. What `submit` raises for the first ones is raised here.
    """

    def __init__(self, request: Request, slices: Sequence[slice], submit: Submit, *, model: str = "") -> None:
        self._request = request
        self._ahead = iter(slices)
        self._submit = submit
        self._model = model
        self._parts: list[asyncio.Future[Answer]] = []
        self._left = len(slices)
        self.future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            for _ in range(_MOST_UNDER_WAY):
                self._submit_next()
        except BaseException:
            self.future.cancel()
            self._take_back()
            raise
        self.future.add_done_callback(self._ended)

    def _submit_next(self) -> None:
        if (rows := next(self._ahead, None)) is not None:
            part = self._submit(self._request.take(rows))
            self._parts.append(part)
            part.add_done_callback(self._landed)

    def _landed(self, part: "asyncio.Future[Answer]") -> None:
        """Go on, or end; whoever waits is told, whatever goes wrong."""
        error = None if part.cancelled() else part.exception()
        if self.future.done():
            return
        try:
            if part.cancelled() or error:
                self._fail(error)
            else:
                self._go_on()
        except RequestError as refusal:
            self._fail(refusal)
        except Exception as unforeseen:
            self._fail(unmade(self._model, unforeseen))

    def _go_on(self) -> None:
        self._left -= 1
        self._submit_next()
        if not self._left:
            self.future.set_result(self._whole([part.result() for part in self._parts]))

    def _fail(self, error: BaseException | None) -> None:
        """End with an error, or cancelled.

        The other parts are taken back at once. Still there is one turn of the loop from the end of a part until this is
        called, and another until whoever holds the others hears that they are cancelled.
        """
        self._take_back()
        if error is None:
            self.future.cancel()
        else:
            self.future.set_exception(error)
            self.future.exception()  # asked for here: its caller may have ended before it

    def _ended(self, _: "asyncio.Future[Answer]") -> None:
        self._take_back()

    def _take_back(self) -> None:
        for part in self._parts:
            part.cancel()

    def _whole(self, answers: Sequence[Answer]) -> Answer:
        names = answers[0].outputs
        outputs = {name: concatenated([answer.outputs[name] for answer in answers]) for name in names}
        receipts = [answer.receipt for answer in answers]
        facts = together(receipts)._replace(
            queue_ns=_longest_wait(receipts), truncations=_truncations(receipts, self._request)
        )
        return Answer(outputs, facts)


def _longest_wait(receipts: Sequence[Receipt]) -> int:
    """From the first part's start of waiting to the last one's end: later ones waited before they were submitted."""
    since = min(receipt.started_ns - receipt.queue_ns for receipt in receipts)
    return max(receipt.started_ns for receipt in receipts) - since


def _truncations(receipts: Sequence[Receipt], request: Request) -> Mapping[str, int]:
    cut_rows = {name: sum(r.truncations.get(name, 0) for r in receipts) for r in receipts for name in r.truncations}
    return {n: max(cut_rows.get(n, 0), request.truncations.get(n, 0)) for n in cut_rows.keys() | request.truncations}
