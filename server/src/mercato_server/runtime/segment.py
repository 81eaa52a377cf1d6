"""Shared memory between two processes: anonymous, without a name anywhere, of a size that never changes."""

import contextlib
import fcntl
import mmap
import os

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Segment:
    """A mapping of memory that both sides see; it lasts until each of them has closed it or ended."""

    def __init__(self, descriptor: int) -> None:
        """Map it; the descriptor is closed in any case.

        Raises ValueError for memory that somebody could still shrink: reading behind its end would end the reader.
        """
        try:
            if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
                raise ValueError("the memory is not sealed")
            self._map = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)
        self.view = memoryview(self._map)

    @classmethod
    def make(cls, size: int) -> tuple["Segment", int]:
        """New memory of `size` bytes, zeroed, and a descriptor of it for the other side."""
        descriptor = os.memfd_create("mercato", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, size)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            return cls(os.dup(descriptor)), descriptor
        except BaseException:
            os.close(descriptor)
            raise

    def __len__(self) -> int:
        return len(self.view)

    def close(self) -> None:
        """Let go of the memory; what still looks at it keeps it until it has gone."""
        with contextlib.suppress(BufferError):
            self.view.release()
            self._map.close()
