"""When a session gives memory back: its arena keeps what its largest run took until it is told to shrink."""

import time
from collections.abc import Callable

# Giving back costs the next large run its pages, so it is done at most once in so many runs and seconds, and only when
# runs before were so many times larger than all of these.
CALM_RUNS = 32
CALM_SECONDS = 1.0
BURST = 4


class Shrinkage:
    """The sizes of a session's runs, in bytes of their inputs, by stretches of `CALM_RUNS` and `CALM_SECONDS`.

    `clock` is in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends = clock() + CALM_SECONDS
        self._runs = 0
        self._largest = 0
        self._grown_to = 0

    def is_due(self, nbytes: int) -> bool:
        """Whether the run that has inputs of this size is to give back what larger ones before it took.

        It is the last run of the first stretch that holds small ones only.
        """
        self._runs += 1
        self._largest = max(self._largest, nbytes)
        if self._runs < CALM_RUNS or self._clock() < self._ends:
            return False
        is_over = self._grown_to > BURST * self._largest
        self._grown_to = self._largest if is_over else max(self._grown_to, self._largest)
        self._runs = self._largest = 0
        self._ends = self._clock() + CALM_SECONDS
        return is_over
