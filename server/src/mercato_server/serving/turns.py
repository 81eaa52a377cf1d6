"""Whose turn it is: a heap of things whose keys change while they are in it."""

from heapq import heappop, heappush, heapreplace
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

Key = tuple[Any, ...]


class Queued(Protocol):
    """What takes turns. `turn` is the key under which it stands in the heap, and belongs to the heap."""

    turn: Key | None

    def key(self) -> Key | None:
        """Its key now, None when it has nothing to give; one that falls is to be offered again, others may rise."""


Item = TypeVar("Item", bound=Queued)


class Turns(Generic[Item]):
    """The one with the smallest key is found in O(log n), also when keys have risen unseen."""

    def __init__(self) -> None:
        self._heap: list[tuple[Key, int, Item]] = []
        self._numbers = count()

    def offer(self, item: Item) -> None:
        """Enter it, or enter it again because its key has fallen."""
        key = item.key()
        if key is not None and (item.turn is None or key < item.turn):
            self._enter(item, key)

    def first(self) -> Item | None:
        """The one whose turn it is, which stays; None when nobody has anything."""
        while self._heap:
            key, _, item = self._heap[0]
            if item.turn is key:
                now = item.key()
                if now == key:
                    return item
                item.turn = now
                if now is None:
                    heappop(self._heap)
                else:
                    heapreplace(self._heap, (now, next(self._numbers), item))
            else:
                heappop(self._heap)  # entered again since with another key
        return None

    def _enter(self, item: Item, key: Key) -> None:
        item.turn = key
        heappush(self._heap, (key, next(self._numbers), item))
