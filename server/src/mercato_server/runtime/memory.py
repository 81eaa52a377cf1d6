"""The memory of this process: how much it holds, what a load adds to it, its bound, and giving unused pages back."""

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

STATUS = Path("/proc/self/status")

# One load at a time in a process, so that the growth of each is its own.
_LOADS = threading.Lock()

TURN_SECONDS = 1.0
"""Longest wait for another load to end: behind one that hangs nothing is measured."""


def held() -> int:
    """Bytes of memory that are this process's own: anonymous and shared pages, not those of files. 0 where unknown."""
    sizes = _sizes()
    return sizes.get("RssAnon", 0) + sizes.get("RssShmem", 0)


class Growth:
    """How much the process has grown by what was measured, in bytes; it never falls."""

    def __init__(self) -> None:
        self.nbytes = 0

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Measure the block, if it is the only one in this process."""
        if not _LOADS.acquire(timeout=TURN_SECONDS):
            yield
            return
        try:
            give_back()  # what was freed earlier would make the growth look smaller
            before = held()
            yield
            give_back()
            self.nbytes += max(0, held() - before)
        finally:
            _LOADS.release()


def give_back() -> None:
    """Hand freed pages back to the system, where the C library can."""
    if _trim is not None:
        _trim(0)


def limit_memory(nbytes: int) -> None:
    """Bound the private memory of this process, for good; what would pass the bound gets MemoryError.

    The kernel bounds what is reserved, of which imports have much that they never touch; that is not counted.
    """
    import resource  # which not every system has

    sizes = _sizes()
    bound = nbytes + max(0, sizes.get("VmData", 0) - sizes.get("RssAnon", 0))
    resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))


def _sizes() -> Mapping[str, int]:
    """The sizes of this process's status, in bytes."""
    try:
        lines = [line.split() for line in STATUS.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0].removesuffix(":"): int(words[1]) * 1024 for words in lines if words[-1:] == ["kB"]}


def _found_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    return trim


_trim = _found_trim()
