"""What a forked process may still do: gRPC does not survive os.fork, and calls in a child may hang."""

import os

from mercato_client.errors import InvalidInput

_LOST = (
    "this process was forked from one in which a client was open, and gRPC does not work on both sides of a fork; "
    'start processes with multiprocessing.get_context("spawn"), or open the first client after the fork'
)


class _Process:
    """Whether this process has opened a channel, and whether it is the child of one that had."""

    opened = False
    lost = False

    def mark_child(self) -> None:
        self.lost = self.opened


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.mark_child)


def opening() -> None:
    """Note that this process opens a channel. Raises InvalidInput where gRPC cannot work any more."""
    check()
    _process.opened = True


def check() -> None:
    """Raise InvalidInput in a process that was forked after a channel had been opened, also a closed one."""
    if _process.lost:
        raise InvalidInput(_LOST)


def lost() -> bool:
    """Whether this process must leave gRPC alone, even to close a channel."""
    return _process.lost
