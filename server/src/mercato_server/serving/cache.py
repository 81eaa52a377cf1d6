"""What one model has answered: rows that are known are not run again, nor are rows that are being run."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from mercato_server.errors import Draining, PluginFault, RequestError, WorkerCrashed
from mercato_server.serving.assembly import Call, Run, Underway, unmade
from mercato_server.serving.known_rows import KnownRows, Row, cut_up
from mercato_server.serving.request import Answer, Request, Submit
from mercato_server.serving.row_keys import row_keys

# Whoever has waited in vain so often relies on runs of its own, so that rows which always fail end.
_MOST_LOST = 2


class RowCache:
    """Answers requests of one model from rows that are known, kept within `max_bytes`; has `submit` run the others.

    A row that is being run already, for another request or for another place of the same one, is waited for, unless
    that request is less urgent, or is another caller's and may stand in a backlog: `is_short` tells whether what waits
    for the model fits one batch. If its run fails, whoever waited has the row run again, or fails too where that would
    end in the same way.

    `digest` is the SHA-256 of the model's artifact. `hits` counts the rows of answers that were not run for them,
    `misses` those that were. It belongs to the loop that it is made in.
    """

    def __init__(self, model: str, digest: str, max_bytes: int, submit: Submit, is_short: Callable[[], bool]) -> None:
        self._model = model
        self._digest = digest
        self._submit = submit
        self._is_short = is_short
        self._loop = asyncio.get_running_loop()
        self._known = KnownRows(max_bytes)
        self._underway = Underway()
        self.hits = self.misses = 0

    def __len__(self) -> int:
        """Number of known rows."""
        return len(self._known)

    @property
    def nbytes(self) -> int:
        """Bytes of the known rows."""
        return self._known.nbytes

    def begin(self, request: Request) -> Call:
        """A call with the rows that are known; its future is done if those are all.

        Otherwise it is to be given to `run`. Nothing is held for one that is not.
        """
        call = Call(request, self._loop.create_future(), row_keys(self._model, self._digest, request))
        call.missing = [place for place in range(request.rows) if not self._take(call, place)]
        if not call.missing and not self._finish(call):
            call.clear()
            call.missing = range(request.rows)
        return call

    def run(self, call: Call) -> "asyncio.Future[Answer]":
        """The answer to a call that has begun. Cancelling the future takes the request back.

        It has whatever RequestError `submit` has or raises for the rows that are run; any other is raised here, and
        leaves nothing behind. What is run has the permit that the call's request has by now.
        """
        missing, call.missing = call.missing, ()
        try:
            self._gather(call, missing)
        except BaseException:
            self._leave(call)
            call.future.cancel()
            raise
        if not call.future.done():
            call.future.add_done_callback(partial(self._gone, call))
        return call.future

    def _take(self, call: Call, place: int) -> bool:
        """Whether the row of that place is known."""
        row = self._known.get(call.keys[place])
        if row is not None:
            call.take(place, row)
        return row is not None

    def _gather(self, call: Call, places: Iterable[int]) -> None:
        """Take the rows that are known, wait for those that are under way, and run the rest."""
        fresh: dict[bytes, list[int]] = {}
        for place in places:
            if self._take(call, place):
                continue
            key = call.keys[place]
            if (run := self._run_for(call, key)) is not None:
                call.wait(run, place)
            else:
                fresh.setdefault(key, []).append(place)
        if fresh:
            self._start(call, [equal[0] for equal in fresh.values()], [p for equal in fresh.values() for p in equal])
        elif not call.runs:
            self._complete(call)

    def _run_for(self, call: Call, key: bytes) -> Run | None:
        """A run to wait for, which ends no later than one of the call's own would."""
        runs = self._underway.find(key, call.request.caller)
        return next((run for run in runs if self._may_wait(call, run)), None) if runs else None

    def _may_wait(self, call: Call, run: Run) -> bool:
        if call.lost >= _MOST_LOST or not run.is_as_urgent(call.request):
            return False
        # In a backlog the turns of callers differ: a caller with little waiting has its own run sooner.
        return run.request.caller == call.request.caller or self._is_short()

    def _start(self, call: Call, rows: Sequence[int], places: Iterable[int]) -> None:
        """Run some rows of a request, which are to fill the places."""
        request = _part(call.request, rows)
        run = Run(call, request, [call.keys[row] for row in rows], self._submitted(request))
        for place in places:
            call.wait(run, place)
        self._underway.add(run)
        run.future.add_done_callback(partial(self._ended, run))

    def _submitted(self, request: Request) -> "asyncio.Future[Answer]":
        try:
            return self._submit(request)
        except RequestError as error:
            refused: asyncio.Future[Answer] = self._loop.create_future()
            refused.set_exception(error)
            return refused

    def _complete(self, call: Call) -> None:
        if not self._finish(call):
            self._run_whole(call)

    def _finish(self, call: Call) -> bool:
        """Whether the rows that are there make the answer."""
        answer = call.answer()
        if answer is None:
            return False
        cached = answer.receipt.cached_rows
        self.hits += cached
        self.misses += call.request.rows - cached
        call.future.set_result(answer)
        return True

    def _run_whole(self, call: Call) -> None:
        """Have one run bring every row, whatever is known: what there is does not make an answer."""
        self._leave(call)
        call.clear()
        everything = range(call.request.rows)
        self._start(call, everything, everything)

    def _ended(self, run: Run, future: "asyncio.Future[Answer]") -> None:
        """Give each call that waits what the run has brought, whatever goes wrong with it or another one."""
        self._underway.forget(run)
        waiting = {call: places for call, places in run.calls.items() if not call.future.done()}
        run.calls.clear()
        for call in waiting:
            call.runs.remove(run)
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        try:
            rows = [] if error else self._kept(run, future.result())
        except Exception as unforeseen:
            self._break(waiting, unforeseen)
            return
        for call, places in waiting.items():
            try:
                if error is None:
                    self._landed(run, call, places, future.result(), rows)
                else:
                    self._failed(run, call, places, error)
            except Exception as unforeseen:
                self._break([call], unforeseen)

    def _kept(self, run: Run, answer: Answer) -> list[Row]:
        """The rows that a run has brought, which are known from now on."""
        rows = cut_up(answer, len(run.keys), run.request.outputs)
        for key, row in zip(run.keys, rows, strict=True):
            if row.cut is not None:
                self._known.put(key, row)
        for array in answer.outputs.values():
            array.flags.writeable = False  # several callers may get it
        return rows

    def _landed(self, run: Run, call: Call, places: Sequence[int], answer: Answer, rows: Sequence[Row]) -> None:
        if not call.land(run, places, answer, rows):
            self._lose(run, call, places)
        elif not call.runs:
            self._complete(call)

    def _break(self, calls: Iterable[Call], unforeseen: Exception) -> None:
        """End calls, each with an error of its own; what else they wait for is left as when a caller has gone."""
        fault = unmade(self._model, unforeseen)
        for call in calls:
            if not call.future.done():
                _fail(call, PluginFault(fault.message, model=fault.model, known=fault.id))

    def _failed(self, run: Run, call: Call, places: Sequence[int], error: BaseException) -> None:
        if run.leader is not call:
            own = _as_its_own(error, {call.keys[place] for place in places} == set(run.keys))
            if own is None:
                self._lose(run, call, places)
                return
            error = own
        _fail(call, error)

    def _lose(self, run: Run, call: Call, places: Sequence[int]) -> None:
        """Get rows elsewhere that a run has not brought."""
        if run.leader is call:
            self._run_whole(call)
        else:
            call.lost += 1
            self._gather(call, places)

    def _gone(self, call: Call, _: "asyncio.Future[Answer]") -> None:
        """Nobody waits for it any more, if anybody did."""
        self._leave(call)

    def _leave(self, call: Call) -> None:
        """Wait for nothing any more; a run that nobody waits for is taken back."""
        for run in call.runs:
            run.calls.pop(call, None)
            if not run.calls:
                self._underway.forget(run)
                run.future.cancel()
        call.runs.clear()


def _part(request: Request, rows: Sequence[int]) -> Request:
    """Some rows, all if there are as many; what was cut on arrival is the call's own in both cases."""
    if len(rows) < request.rows:
        return request.take(np.array(rows, np.intp))
    return replace(request, truncations={}) if request.truncations else request


def _as_its_own(error: BaseException, has_same_rows: bool) -> RequestError | None:
    """The error for a request that waited for another's run; None where a run of its own may go better.

    A fault counts only if the run had no other rows, one of which may be guilty. What may have ended a worker is not
    tried again, and a server that is stopping runs nothing more.
    """
    match error:
        case PluginFault() if has_same_rows:
            return PluginFault(error.message, model=error.model, known=error.id)
        case WorkerCrashed(may_have_run=True):
            return WorkerCrashed(error.message, model=error.model)
        case Draining():
            return Draining(error.message, model=error.model)
    return None


def _fail(call: Call, error: BaseException) -> None:
    if isinstance(error, asyncio.CancelledError):
        call.future.cancel()
        return
    call.future.set_exception(error)
    call.future.exception()  # asked for here: its caller may have ended before it
