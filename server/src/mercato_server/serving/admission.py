"""The bounded supply of permits that a request needs before it may queue: its model's, the process's, its caller's."""

from collections.abc import Mapping
from types import MappingProxyType

ANYBODY = "*"


class Pool:
    """What one model, or the whole process, holds of requests that were accepted and not answered yet."""

    def __init__(self, *, max_requests: int, max_bytes: int) -> None:
        self.max_requests = max_requests
        self.max_bytes = max_bytes
        self.requests = 0
        self.bytes = 0

    def lacks(self, nbytes: int, leaving: "Permit | None" = None) -> str:
        """What there is no room for, in words; "" when a request of so many bytes fits, once another one has left."""
        if self.requests - (leaving is not None) >= self.max_requests:
            return f"{self.requests} requests in flight, its limit"
        # One request alone always fits: the message limit has bounded it already.
        held = self.bytes - (leaving.nbytes if leaving else 0)
        if held and held + nbytes > self.max_bytes:
            return f"{self.bytes} bytes of requests in flight, {nbytes} more would pass its limit of {self.max_bytes}"
        return ""


class Callers:
    """Shares and quotas of callers by name; "*" is everybody who is not named. A quota of None is any number.

    A quota bounds the requests of one caller that are in flight in the whole process.
    """

    def __init__(
        self,
        weights: Mapping[str, float] = MappingProxyType({}),
        quotas: Mapping[str, int | None] = MappingProxyType({}),
    ) -> None:
        self._weights = weights
        self._quotas = quotas
        self._usual = weights.get(ANYBODY, 1.0), quotas.get(ANYBODY)
        self.requests: dict[str, int] = {}

    def weight(self, caller: str) -> float:
        """A caller's share, beside those of others who wait."""
        return self._weights.get(caller, self._usual[0])

    def quota(self, caller: str) -> int | None:
        """Most requests that a caller may have in flight; None is any number."""
        return self._quotas.get(caller, self._usual[1])

    def is_over(self, caller: str) -> bool:
        """Whether one request more would pass the caller's quota."""
        quota = self.quota(caller)
        return quota is not None and self.requests.get(caller, 0) >= quota


class Permit:
    """A place for one request in all pools that count it; given back once, however often that is said."""

    __slots__ = ("_callers", "_pools", "caller", "nbytes")

    def __init__(self, pools: tuple[Pool, ...], callers: Callers, caller: str, nbytes: int) -> None:
        self._pools = pools
        self._callers = callers
        self.caller = caller
        self.nbytes = nbytes
        for pool in pools:
            pool.requests += 1
            pool.bytes += nbytes
        callers.requests[caller] = callers.requests.get(caller, 0) + 1

    @property
    def is_held(self) -> bool:
        """Whether it has not been given back."""
        return bool(self._pools)

    def release(self) -> None:
        """Give the place back."""
        for pool in self._pools:
            pool.requests -= 1
            pool.bytes -= self.nbytes
        if self._pools:
            self._leave()
        self._pools = ()

    def _leave(self) -> None:
        left = self._callers.requests[self.caller] - 1
        if left:
            self._callers.requests[self.caller] = left
        else:
            del self._callers.requests[self.caller]
