"""What the engines of one process share: a pool of permits, the shares and quotas of callers, and each other."""

from typing import Protocol
from weakref import WeakSet

from mercato_server.serving.admission import ANYBODY, Callers, Permit, Pool
from mercato_server.serving.request import Request


class Member(Protocol):
    """An engine, as the others know it."""

    pool: Pool

    def drain_seconds(self) -> float:
        """Estimated time until what it has now has been run."""

    def displace(self, priority: int, caller: str, pool: Pool, nbytes: int) -> bool:
        """Whether something that deserves its place less than such a request has left the pool, and that was enough."""


class Process:
    """The pool of all models together, and who is in it."""

    def __init__(self, pool: Pool, callers: Callers) -> None:
        self.pool = pool
        self.callers = callers
        self._members: WeakSet[Member] = WeakSet()

    def enter(self, member: Member) -> None:
        """An engine is one of them for as long as it lives."""
        self._members.add(member)

    def permit(self, pool: Pool, request: Request) -> Permit:
        """A place in a model's pool and in the process's own."""
        return Permit((pool, self.pool), self.callers, request.caller, request.nbytes)

    def displace(self, member: Member, request: Request) -> bool:
        """Whether the engine that holds most has made room for one that holds less: a flood keeps no model out."""
        busiest = max(self._members, key=lambda other: other.pool.requests)
        if busiest.pool.requests <= member.pool.requests + 1:
            return False
        return busiest.displace(request.priority, ANYBODY, self.pool, request.nbytes)

    def drain_seconds(self) -> float:
        """Estimated time until a place comes free: the mean of all engines by what they hold."""
        held = sum(member.pool.requests for member in self._members)
        drains = sum(member.pool.requests * member.drain_seconds() for member in self._members if member.pool.requests)
        return drains / held if held else 0.0
