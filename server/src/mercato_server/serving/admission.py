"""The bounded supply of permits that a request needs before it may queue."""

from collections.abc import Callable

from mercato_server.errors import Overloaded


class Admission:
    """Permits of one model, counted in requests and bytes; taken on entry, given back on the answer.

    Limits and counts are one front's share of the model's: fronts know nothing of each other, and whoever starts
    several divides the limits among them.
    """

    def __init__(self, model: str, *, max_requests: int, max_bytes: int) -> None:
        self._model = model
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self.requests = 0
        self.bytes = 0

    def take(self, nbytes: int, retry_after: Callable[[], float]) -> None:
        """Take a permit, or raise Overloaded. `retry_after` estimates the drain time in seconds, when it is needed."""
        if self.requests >= self._max_requests:
            raise Overloaded(
                f"model {self._model!r} has {self.requests} requests in flight, its limit; retry later",
                model=self._model,
                retry_after=retry_after(),
            )
        # One request alone always fits: the message limit has bounded it already.
        if self.bytes and self.bytes + nbytes > self._max_bytes:
            raise Overloaded(
                f"model {self._model!r} holds {self.bytes} bytes of requests, {nbytes} more would pass its limit of "
                f"{self._max_bytes}; retry later",
                model=self._model,
                retry_after=retry_after(),
            )
        self.requests += 1
        self.bytes += nbytes

    def give_back(self, nbytes: int) -> None:
        """Return a permit."""
        self.requests -= 1
        self.bytes -= nbytes
