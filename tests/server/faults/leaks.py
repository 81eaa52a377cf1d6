"""What a server holds: a sample of it, and the line through its memory over many cycles."""

from collections.abc import Callable
from dataclasses import astuple, dataclass

import numpy as np
from tests.server.running import Running


@dataclass(frozen=True)
class Held:
    """What a process holds: its children, threads, open descriptors, and pieces of shared memory mapped or open."""

    children: int
    threads: int
    descriptors: int
    segments: int


def level(running: Running, call: Callable[[], object]) -> Held:
    """The least of each figure over some calls: what comes and goes does not count."""
    samples = []
    for _ in range(50):
        call()
        samples.append(astuple(_held(running)))
    return Held(*map(min, zip(*samples, strict=True)))


def _held(running: Running) -> Held:
    descriptors = running.descriptors()
    segments = sum("memfd:" in text for text in (*descriptors, *running.maps().splitlines()))
    return Held(len(running.children()), running.threads(), len(descriptors), segments)


def slope(running: Running, cycle: Callable[[], None], cycles: int) -> float:
    """Bytes of memory that the server keeps of each cycle, by least squares."""
    samples = []
    for _ in range(cycles):
        cycle()
        samples.append(running.memory())
    return float(np.polyfit(np.arange(cycles), samples, 1)[0])
