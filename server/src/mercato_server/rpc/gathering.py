"""Letting calls that arrive close together be read together.

gRPC hands over about one call per turn of the event loop. Read one by one, each call pays for cold caches
and makes a batch of its own; read back to back, many calls in flight cost the server much less.
"""

import asyncio
from collections.abc import Callable
from functools import partial

LONGEST_QUIET = 32
LARGEST = 64


class Gathering:
    """Counts the calls in flight, and holds arriving ones until the loop has brought no other for a few turns.

    The number of quiet turns follows the calls in flight and the size of the last gathering, `LONGEST_QUIET`
    at most. A lone call does not wait, except for the first one after a gathering of several. Nobody waits for a
    timer, and `LARGEST` calls never wait for another.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Callable[[], None]] = []
        self._in_flight = 0
        self._last = 1

    def enter(self) -> None:
        """A call has arrived."""
        self._in_flight += 1

    def leave(self) -> None:
        """It was answered."""
        self._in_flight -= 1

    async def turn(self) -> None:
        """Return when the calls gathered with this one may go on, all in the same turn of the loop."""
        if self._is_lone():
            return
        future = self._loop.create_future()
        self._wait(partial(_wake, future))
        await future

    def soon(self, go_on: Callable[[], None]) -> None:
        """The same for a call that is no task: `go_on` is called in its turn, at once for a lone call."""
        if self._is_lone():
            go_on()
        else:
            self._wait(go_on)

    def release(self) -> None:
        """Let every call that waits go on now."""
        waiting, self._waiting = self._waiting, []
        self._last = max(1, len(waiting))
        for go_on in waiting:
            go_on()

    def _is_lone(self) -> bool:
        return max(self._in_flight, self._last) == 1

    def _wait(self, go_on: Callable[[], None]) -> None:
        if not self._waiting:
            self._loop.call_soon(self._look, 0, 0)
        self._waiting.append(go_on)

    def _look(self, seen: int, quiet: int) -> None:
        count = len(self._waiting)
        if count == 0:
            return  # released by somebody else
        quiet = quiet + 1 if count == seen else 0
        if quiet < min(LONGEST_QUIET, 4 * max(self._in_flight, self._last)) and count < LARGEST:
            self._loop.call_soon(self._look, count, quiet)
        else:
            self.release()


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
