"""Parts of batches that have raised: each is run again as it is, and halved again if it raises, until one is alone."""

from collections import deque
from collections.abc import Iterator, Sequence

from mercato_server.serving.expiry import Expiry
from mercato_server.serving.lines import Entry


class Halves:
    """The parts that wait, in the order in which they are to be run."""

    def __init__(self, expiry: Expiry) -> None:
        self._expiry = expiry
        self._parts: deque[Sequence[Entry]] = deque()

    def __bool__(self) -> bool:
        return bool(self._parts)

    def __len__(self) -> int:
        """Number of entries; any thread may ask."""
        return sum(1 for _ in self._entries()) if self._parts else 0

    @property
    def weight(self) -> int:
        """Of all entries."""
        return sum(entry.request.weight for entry in self._entries()) if self._parts else 0

    def cut(self, entries: Sequence[Entry]) -> None:
        """Halve a batch that has raised."""
        half = len(entries) // 2
        for entry in entries:
            entry.is_bisected = True
        self._parts.extendleft([entries[half:], entries[:half]])

    def put_back(self, part: Sequence[Entry]) -> None:
        """The next part is this one again: it was not run."""
        self._parts.appendleft(part)

    def first(self, now: float) -> list[Entry]:
        """Who still waits of the next part, which stays; nobody when there is no part."""
        while self._parts:
            alive = [entry for entry in self._parts[0] if self._expiry.is_alive(entry, now)]
            if alive:
                return alive
            self._parts.popleft()
        return []

    def pop(self) -> None:
        """The next part is run now."""
        self._parts.popleft()

    def clear(self) -> list[Entry]:
        """Take everything out."""
        entries = [entry for part in self._parts for entry in part]
        self._parts.clear()
        return entries

    def _entries(self) -> Iterator[Entry]:
        return (entry for part in list(self._parts) for entry in part if not entry.future.done())
