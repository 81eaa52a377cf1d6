"""Who is not run any more: those whose caller has gone, and those for whom it is too late, who are told so."""

from mercato_server.errors import DeadlineExpired, DeadlineUnreachable
from mercato_server.serving.lines import Entry


class Expiry:
    """Of the entries of one model."""

    def __init__(self, model: str) -> None:
        self._model = model

    def is_alive(self, entry: Entry, now: float) -> bool:
        """Whether somebody still waits; an expired entry is told so, and neither is ever run."""
        if entry.future.done():
            return False
        if now >= entry.request.deadline:
            text = f"model {self._model!r}: the deadline passed in the queue, {_what_ran(entry)}"
            entry.future.set_exception(DeadlineExpired(text, model=self._model))
            return False
        return True

    def is_in_time(self, entry: Entry, most: float, least: float) -> bool:
        """Whether a run of no more than `most` may answer it; one that it cannot is told so and is not run in vain.

        Neither is one for which a batch would have to be smaller than `least`.
        """
        if most >= max(entry.request.weight, least):
            return True
        text = f"model {self._model!r}: the deadline is nearer than a run takes, {_what_ran(entry)}"
        entry.future.set_exception(DeadlineUnreachable(text, model=self._model, retry_after=None))
        return False


def _what_ran(entry: Entry) -> str:
    if entry.is_bisected:
        return "before it was run again"
    return "nothing was run" if entry.request.places is None else "this part of it was not run"
