"""One end of the line between the serving process and a worker.

A message is a few numbers and perhaps descriptors; what it is about lies in shared memory of its slot. Each side
makes the memory that it writes, and passes it on with the first message that uses it.
"""

import contextlib
import enum
import os
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from mercato_server.runtime.packing import RESERVED, Packed
from mercato_server.runtime.segment import Segment

_FORM = struct.Struct("<BBBxIQQ")
_CARRIED_BYTES = socket.CMSG_LEN(2 * struct.calcsize("i"))

SMALLEST = 64 * 1024
"""Bytes of the smallest memory of a slot."""

KEPT = 1024 * 1024
"""Bytes that a slot keeps however little it needs."""

LARGEST = 1 << 30
"""Bytes of the largest memory of a slot: a batch and its answers take no more."""

LARGEST_HEAD = 16 << 20
"""Bytes of the largest head, which is read whole."""

PATIENCE = 256
"""Messages after which a slot gives memory back that none of them has needed a quarter of."""


class Kind(enum.IntEnum):
    """What a message asks or answers."""

    START = 1  # of the worker: import the plugin
    OPEN = 2  # one more lane, whose socket comes along
    LOAD = 3
    WARM = 4
    RUN = 5
    CLOSE = 6
    DONE = 7
    FAILED = 8
    NOT_RUN = 9


class Broken(Exception):
    """The other side sent what is no message."""


class NoRoom(Exception):
    """There is no memory, or no descriptor, for what was to be sent; the other side knows nothing of it."""


class Message(NamedTuple):
    """One message. `view` is the memory that it is about, without its head, which is `head`: both are borrowed."""

    kind: int
    slot: int
    number: int
    view: memoryview
    head: bytes
    descriptors: Sequence[int]


_EMPTY = memoryview(b"")


def pair() -> tuple[socket.socket, socket.socket]:
    """A line's two ends. Messages keep their bounds and their order."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Link:
    """One end. `slots` messages with something in memory may be under way at a time; belongs to one thread.

    `accepts` is the number of descriptors that a message may bring besides that of its memory.
    """

    def __init__(self, end: socket.socket, slots: int = 1, accepts: int = 0) -> None:
        self._socket = end
        self._accepts = accepts
        self._mine = [_Slot() for _ in range(slots)]
        self._theirs: list[Segment | None] = [None] * slots

    def fileno(self) -> int:
        """The descriptor of the socket."""
        return self._socket.fileno()

    def send(
        self, kind: Kind, number: int = 0, packed: Packed | None = None, *, slot: int = 0, also: Sequence[int] = ()
    ) -> None:
        """Send a message; `also` are descriptors to pass on.

        Raises NoRoom before anything is sent, OSError when the other side is gone or cannot be reached.
        """
        head = end = 0
        fresh: list[int] = []
        if packed is not None:
            head, end = packed.head_at, packed.end
            fresh = self._written(slot, packed)
        data = _FORM.pack(kind, slot, len(fresh), number, head, end)
        try:
            if fresh or also:
                socket.send_fds(self._socket, [data], [*fresh, *also])
            else:
                self._socket.send(data)
        finally:
            _close(fresh)

    def receive(self) -> Message | None:
        """The next message; None when the other side has closed or ended.

        Raises Broken for what is none, BlockingIOError when there is none on a socket that does not wait.
        """
        try:
            # Not socket.recv_fds: it ignores its flags, and what the plugin starts would inherit the descriptors.
            data, carried, _, _ = self._socket.recvmsg(_FORM.size, _CARRIED_BYTES, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return None
        if not data:
            return None
        descriptors = [number for _, _, numbers in carried for (number,) in struct.iter_unpack("i", numbers)]
        try:
            return self._message(data, descriptors)
        except Exception as error:
            _close(descriptors)
            raise Broken(f"{type(error).__name__}: {error}") from error

    def cancel(self, slot: int) -> None:
        """Mark what was sent last in this slot as no longer wanted; the other side may not have looked at it yet."""
        self._mine[slot].mark()

    def is_cancelled(self, slot: int) -> bool:
        """Whether the other side has marked what it sent last in this slot."""
        segment = self._theirs[slot]
        return segment is not None and segment.view[0] != 0

    def close(self) -> None:
        """Close the socket and let go of all memory; closing again does nothing."""
        self._socket.close()
        for slot in self._mine:
            slot.close()
        for place, segment in enumerate(self._theirs):
            if segment is not None:
                segment.close()
                self._theirs[place] = None

    def _written(self, slot: int, packed: Packed) -> list[int]:
        if packed.end > LARGEST:
            raise NoRoom(f"{packed.end} bytes are more than {LARGEST}")
        try:
            segment, fresh = self._mine[slot].room(packed.end)
        except (OSError, MemoryError) as error:
            raise NoRoom(f"{type(error).__name__}: {error}") from error
        segment.view[0] = 0
        packed.write(segment.view)
        return fresh

    def _message(self, data: bytes, descriptors: list[int]) -> Message:
        kind, slot, fresh, number, head, end = _FORM.unpack(data)
        if fresh:
            self._take(slot, descriptors.pop(0))
        if len(descriptors) > self._accepts:
            raise ValueError("the message brings descriptors that nobody asked for")
        if not end:
            return Message(kind, slot, number, _EMPTY, b"", descriptors)
        segment = self._theirs[slot]
        if segment is None or not RESERVED <= head <= end <= len(segment):
            raise ValueError("the message points outside its memory")
        if end > LARGEST or end - head > LARGEST_HEAD:
            raise ValueError("the message is too large")
        return Message(kind, slot, number, segment.view[:head], bytes(segment.view[head:end]), descriptors)

    def _take(self, slot: int, descriptor: int) -> None:
        segment = Segment(descriptor)
        before, self._theirs[slot] = self._theirs[slot], segment
        if before is not None:
            before.close()


class _Slot:
    """The memory of one slot on the side that writes: it grows when it has to, and shrinks when it long need not."""

    def __init__(self) -> None:
        self._segment: Segment | None = None
        self._largest = 0
        self._uses = 0

    def room(self, size: int) -> tuple[Segment, list[int]]:
        """Memory of at least `size` bytes, and a descriptor for the other side where it has not seen it yet."""
        self._largest = max(self._largest, size)
        self._uses += 1
        wanted = self._wanted(size)
        if self._segment is not None and wanted == len(self._segment):
            return self._segment, []
        segment, descriptor = Segment.make(wanted)  # first, so that what there is stays when there is no more
        self.close()
        self._segment = segment
        return segment, [descriptor]

    def mark(self) -> None:
        if self._segment is not None:
            self._segment.view[0] = 1

    def close(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _wanted(self, size: int) -> int:
        """The size to have now: powers of two, so that it changes seldom."""
        have = 0 if self._segment is None else len(self._segment)
        if self._uses < PATIENCE:
            return have if size <= have else _power(size)
        largest, self._largest, self._uses = self._largest, 0, 0
        is_oversized = have > KEPT and 4 * largest <= have
        return max(_power(largest), KEPT) if is_oversized or size > have else have


def _power(size: int) -> int:
    return max(SMALLEST, 1 << (size - 1).bit_length())


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
