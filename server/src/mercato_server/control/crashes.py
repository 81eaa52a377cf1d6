"""How often the worker of a plugin may crash, and how long to wait before it is started again."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0


@dataclass(frozen=True)
class Clock:
    """Monotonic seconds, and how to let them pass."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True)
class CrashLimits:
    """The `budget`-th crash within `window` seconds is one too many."""

    budget: int = 5
    window: float = 60.0


class CrashBudget:
    """The crashes of one worker, on a clock in seconds."""

    def __init__(self, limits: CrashLimits, now: Callable[[], float]) -> None:
        self._limits = limits
        self._now = now
        self._crashes: deque[float] = deque()

    def crashed(self) -> float | None:
        """Count a crash: the seconds to wait before the worker is started again, None when it is not to be."""
        now = self._now()
        while self._crashes and now - self._crashes[0] >= self._limits.window:
            self._crashes.popleft()
        self._crashes.append(now)
        count = len(self._crashes)
        if count >= self._limits.budget:
            return None
        # A larger power would not fit a float; the longest pause is reached long before.
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(count - 1, 16))

    def used_up(self) -> str:
        """What has happened when it is used up, to be continued with the cause."""
        return f"ended {self._limits.budget} times within {self._limits.window:g} s"
