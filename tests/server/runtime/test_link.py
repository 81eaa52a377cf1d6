"""Two ends of a line: messages, shared memory that grows and shrinks, and what a strange other side can do."""

import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from mercato_server.runtime.link import (
    KEPT,
    LARGEST,
    LARGEST_HEAD,
    PATIENCE,
    SMALLEST,
    Broken,
    Kind,
    Link,
    NoRoom,
    pair,
)
from mercato_server.runtime.packing import RESERVED, Packed
from mercato_server.runtime.segment import Segment

Ends = tuple[Link, Link]


def packed(content: bytes, name: str = "x") -> Packed:
    return Packed({"name": name}, [(RESERVED, content)], RESERVED + len(content))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def sizes(link: Link) -> list[int]:
    return [0 if slot._segment is None else len(slot._segment) for slot in link._mine]


@pytest.fixture
def ends() -> Iterator[Ends]:
    one, other = pair()
    links = Link(one, 2), Link(other, 2, accepts=1)
    yield links
    for link in links:
        link.close()


def test_a_message_comes_with_its_memory_and_descriptors(ends: Ends) -> None:
    one, other = ends
    read, write = os.pipe()
    one.send(Kind.OPEN, 7, packed(b"abc"), slot=1, also=[write])
    message = other.receive()

    assert message is not None
    assert (message.kind, message.slot, message.number) == (Kind.OPEN, 1, 7)
    assert bytes(message.view[RESERVED:]) == b"abc" and message.head == b'{"name":"x"}'
    os.write(message.descriptors[0], b"here")
    assert os.read(read, 4) == b"here"
    assert not os.get_inheritable(message.descriptors[0])
    for descriptor in (read, write, *message.descriptors):
        os.close(descriptor)


def test_messages_without_memory_and_the_end(ends: Ends) -> None:
    one, other = ends
    one.send(Kind.CLOSE, 2**32 - 1)
    message = other.receive()
    assert message is not None and (message.kind, message.number, message.head) == (Kind.CLOSE, 2**32 - 1, b"")
    one.close()
    assert other.receive() is None
    with pytest.raises(BrokenPipeError):
        other.send(Kind.DONE)


def test_the_memory_of_a_slot_is_used_again_and_grows(ends: Ends) -> None:
    one, other = ends
    before = descriptors()
    for content in (b"a", b"b" * 100, b"c" * SMALLEST, b"d", b"e" * 5 * SMALLEST):
        one.send(Kind.RUN, 1, packed(content))
        message = other.receive()
        assert message is not None and bytes(message.view[RESERVED:]) == content
        del message
    assert sizes(one) == [8 * SMALLEST, 0]
    # One of the memory on each side; a mapping keeps its descriptor.
    assert descriptors() == before + 2


def test_memory_that_is_long_not_needed_is_given_back(ends: Ends) -> None:
    one, other = ends
    seen = []
    for content in (b"a" * (16 * KEPT), *([b"b"] * (2 * PATIENCE))):
        one.send(Kind.RUN, 1, packed(content))
        assert other.receive() is not None
        seen.append(sizes(one)[0])
    assert seen[0] == seen[PATIENCE // 2] == 32 * KEPT
    assert seen[-1] == KEPT


def test_a_mark_is_seen_on_the_other_side_until_the_slot_is_used_again(ends: Ends) -> None:
    one, other = ends
    assert not other.is_cancelled(0)
    one.cancel(0)  # nothing was sent in it
    one.send(Kind.RUN, 1, packed(b"abc"))
    other.receive()
    assert not other.is_cancelled(0)
    one.cancel(0)
    assert other.is_cancelled(0) and not other.is_cancelled(1)
    one.send(Kind.RUN, 2, packed(b"abc"))
    assert not other.is_cancelled(0)


def test_closing_gives_everything_back_and_may_be_repeated() -> None:
    before = descriptors()
    one, other = map(Link, pair())
    one.send(Kind.RUN, 1, packed(b"abc"))
    held = other.receive()
    other.send(Kind.DONE, 1, packed(b"abc"))
    one.receive()
    for link in (one, other, one, other):
        link.close()
    assert held is not None and bytes(held.view[RESERVED:]) == b"abc"
    del held
    assert descriptors() == before


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        struct.pack("<BBBxIQQ", 1, 0, 0, 1, 64, 70),  # in a slot without memory
        struct.pack("<BBBxIQQ", 1, 200, 0, 1, 64, 70),  # in a slot that is none
        struct.pack("<BBBxIQQ", 1, 200, 0, 1, 0, 0) + b"more",
        struct.pack("<BBBxIQQ", 1, 0, 1, 1, 64, 70),  # a descriptor that did not come
    ],
)
def test_what_is_no_message_is_told(data: bytes) -> None:
    end, other = pair()
    link = Link(other)
    end.send(data)
    if len(data) > 24:
        assert link.receive() is not None  # cut to a message
    else:
        with pytest.raises(Broken):
            link.receive()
    end.close()
    link.close()


@pytest.mark.parametrize(("head", "end"), [(0, 70), (64, 10**9), (80, 70), (2**63, 2**63)])
def test_a_message_that_points_outside_its_memory_is_told(head: int, end: int) -> None:
    mine, other = pair()
    link = Link(other)
    segment, descriptor = Segment.make(4096)
    socket.send_fds(mine, [struct.pack("<BBBxIQQ", Kind.DONE, 0, 1, 1, head, end)], [descriptor])
    with pytest.raises(Broken, match="points outside its memory"):
        link.receive()
    os.close(descriptor)
    segment.close()
    mine.close()
    link.close()


def test_memory_that_could_shrink_under_its_reader_is_refused_and_nothing_leaks() -> None:
    before = descriptors()
    mine, other = pair()
    link = Link(other)
    unsealed = os.memfd_create("loose", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, 4096)
    socket.send_fds(mine, [struct.pack("<BBBxIQQ", Kind.DONE, 0, 1, 1, 64, 70)], [unsealed])
    with pytest.raises(Broken, match="not sealed"):
        link.receive()
    os.close(unsealed)
    mine.close()
    link.close()
    assert descriptors() == before


def test_a_segment_keeps_its_size_and_is_shared() -> None:
    segment, descriptor = Segment.make(4096)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 1)
    with pytest.raises(PermissionError):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    with mmap.mmap(descriptor, 0) as mapped:
        segment.view[5] = 9
        assert mapped[5] == 9 and len(segment) == 4096
    os.close(descriptor)
    segment.close()


def test_descriptors_that_nobody_asked_for_are_refused_and_closed(ends: Ends) -> None:
    one, other = ends
    other.send(Kind.DONE, 1)
    assert one.receive() is not None
    read, write = os.pipe()
    before = descriptors()
    other.send(Kind.DONE, 1, also=[write])
    with pytest.raises(Broken, match="nobody asked for"):
        one.receive()
    assert descriptors() == before
    os.close(read)
    os.close(write)


def test_what_is_too_large_is_not_sent(ends: Ends) -> None:
    one, other = ends
    with pytest.raises(NoRoom, match="bytes are more than"):
        one.send(Kind.RUN, 1, Packed({}, (), LARGEST + 1))
    one.send(Kind.CLOSE, 2)
    message = other.receive()
    assert message is not None and message.kind == Kind.CLOSE


@pytest.mark.parametrize(("head", "end"), [(64, 64 + LARGEST_HEAD + 1), (LARGEST, LARGEST + 1)])
def test_what_is_too_large_is_not_read(head: int, end: int) -> None:
    mine, other = pair()
    link = Link(other)
    segment, descriptor = Segment.make(LARGEST + 4096)  # sparse
    socket.send_fds(mine, [struct.pack("<BBBxIQQ", Kind.DONE, 0, 1, 1, head, end)], [descriptor])
    with pytest.raises(Broken, match="too large"):
        link.receive()
    os.close(descriptor)
    segment.close()
    mine.close()
    link.close()
