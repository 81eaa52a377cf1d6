"""Letting calls that arrive close together be read together.

gRPC hands over about one call per turn of the event loop. Read one by one, each call pays for cold caches
and makes a batch of its own; read back to back, many calls in flight cost the server much less.
"""

import asyncio

LONGEST_QUIET = 16
LARGEST = 64


class Gathering:
    """Counts the calls in flight, and holds arriving ones until the loop has brought no other for a few turns.

    The number of quiet turns follows the calls in flight and the size of the last gathering, `LONGEST_QUIET`
    at most. A lone call does not wait, except for the first one after a gathering of several. Nobody waits for a
    timer, and `LARGEST` calls never wait for another.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[asyncio.Future[None]] = []
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
        if max(self._in_flight, self._last) == 1:
            return
        if not self._waiting:
            self._loop.call_soon(self._look, 0, 0)
        future = self._loop.create_future()
        self._waiting.append(future)
        await future

    def release(self) -> None:
        """Let every call that waits go on in the loop's next turn."""
        waiting, self._waiting = self._waiting, []
        self._last = max(1, len(waiting))
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _look(self, seen: int, quiet: int) -> None:
        count = len(self._waiting)
        if count == 0:
            return  # released by somebody else
        quiet = quiet + 1 if count == seen else 0
        if quiet < min(LONGEST_QUIET, 4 * max(self._in_flight, self._last)) and count < LARGEST:
            self._loop.call_soon(self._look, count, quiet)
        else:
            self.release()
