"""Letting calls that arrive close together be read together.

gRPC hands over about one call per turn of the event loop. Read one by one, each call pays for cold caches
and makes a batch of its own; read back to back, sixty-four calls in flight cost the server half as much.
"""

import asyncio

LONGEST_QUIET = 16
LARGEST = 64


class Gathering:
    """Holds arriving calls until the loop has brought no further one for a few turns.

    How many turns follows the last gathering: four for a lone caller, which is some tens of microseconds,
    and `LONGEST_QUIET` at most. Nobody waits for a timer, and `LARGEST` calls never wait for another.
    """

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []
        self._quiet_turns = 4

    def turn(self) -> "asyncio.Future[None]":
        """Completed when the calls gathered with this one may go on, all in the same turn of the loop."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._look, 0, 0)
        future = loop.create_future()
        self._waiting.append(future)
        return future

    def _look(self, seen: int, quiet: int) -> None:
        count = len(self._waiting)
        quiet = quiet + 1 if count == seen else 0
        if quiet < self._quiet_turns and count < LARGEST:
            asyncio.get_running_loop().call_soon(self._look, count, quiet)
        else:
            self._release()

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._quiet_turns = min(LONGEST_QUIET, 4 * len(waiting))
        for future in waiting:
            if not future.done():
                future.set_result(None)
