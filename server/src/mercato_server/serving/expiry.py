"""Who is not run any more: those whose caller has gone, and those for whom it is too late, who are told so."""

from mercato_server.errors import DeadlineExpired
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
            self._tell(entry, "the deadline passed in the queue")
            return False
        return True

    def is_in_time(self, entry: Entry, most: float) -> bool:
        """Whether a run of no more than `most` may answer it; one that it cannot is told so and is not run in vain."""
        if entry.request.weight > most:
            self._tell(entry, "the deadline is nearer than a run takes")
            return False
        return True

    def _tell(self, entry: Entry, why: str) -> None:
        ran = "before it was run again" if entry.is_bisected else "nothing was run"
        entry.future.set_exception(DeadlineExpired(f"model {self._model!r}: {why}, {ran}", model=self._model))
