"""How much work waits with a deadline before another one: sums by time, so that asking costs the same at any depth."""

from math import inf

_PER_SECOND = 16
_SLOTS = 512
"""Half a minute; what is due later shares one more slot."""


class Horizon:
    """Weights by the time they are due, in slots of a sixteenth of a second that are used again as time passes."""

    def __init__(self) -> None:
        self._sums = [0] * (_SLOTS + 1)
        self._far = inf  # what is in the last slot is due no earlier
        self.total = 0

    def add(self, due: float, weight: int, now: float) -> int:
        """Count a weight; gives the slot to take it out of."""
        ahead = due - now
        slot = _SLOTS if ahead >= (_SLOTS - 1) / _PER_SECOND else int(due * _PER_SECOND) % _SLOTS
        if slot == _SLOTS:
            self._far = min(due, self._far if self._sums[slot] else inf)
        self._sums[slot] += weight
        self.total += weight
        return slot

    def remove(self, slot: int, weight: int) -> None:
        """Take a weight out again."""
        self._sums[slot] -= weight
        self.total -= weight

    def until(self, due: float, now: float) -> int:
        """The weight of what is due no later, within a sixteenth of a second; of what came far ahead all or none."""
        if due == inf or due - now >= (_SLOTS - 1) / _PER_SECOND:
            return self.total
        first, last = int(now * _PER_SECOND) % _SLOTS, int(due * _PER_SECOND) % _SLOTS
        far = self._sums[_SLOTS] if due >= self._far else 0
        if first <= last:
            return far + sum(self._sums[first : last + 1])
        return far + sum(self._sums[first:_SLOTS]) + sum(self._sums[: last + 1])
