"""The memory that models may take together: promised before a load, held to what was measured after it."""

import math

from mercato_server.contract.artifact import Artifact
from mercato_server.errors import MemoryExceeded

MIB = 1024 * 1024


class MemoryBudget:
    """Who holds how much, in bytes by digest; None as its limit refuses nothing. One thread uses it.

    A digest may be held more than once: by what serves and by what is to take its place.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._held: dict[str, list[int]] = {}
        self._measured: dict[str, int] = {}

    @property
    def used(self) -> int:
        """Bytes that are promised or taken."""
        return sum(map(sum, self._held.values()))

    def reserve(self, digest: str, predicted: int, model: str) -> None:
        """Promise a load its memory: what the digest was measured to take before, else `predicted`.

        Raises MemoryExceeded when it does not fit; nothing is promised then.
        """
        needed = self._measured.get(digest, predicted)
        self._check(needed, self.used, f"model {model!r} is expected to take")
        self._held.setdefault(digest, []).append(needed)

    def settle(self, digest: str, nbytes: int, model: str) -> None:
        """Put what a load was measured to take in the place of what it was promised; 0 leaves that as it is.

        Raises MemoryExceeded when it does not fit; it is counted until `release` all the same.
        """
        if not nbytes:
            return
        self._measured[digest] = nbytes
        others = self.used - self._held[digest][-1]
        self._held[digest][-1] = nbytes
        self._check(nbytes, others, f"model {model!r} was measured to take")

    def release(self, digest: str) -> None:
        """Give back what one load of a digest holds."""
        self._held[digest].pop(0)
        if not self._held[digest]:
            del self._held[digest]

    def _check(self, needed: int, used: int, which: str) -> None:
        if self.limit is None or used + needed <= self.limit:
            return
        way_out = "unload another model with `mercato admin unload`, or " if needed <= self.limit else ""
        raise MemoryExceeded(
            f"{which} {_shown(needed)} MiB, but other models hold {_shown(used)} MiB of the "
            f"{self.limit // MIB} MiB of memory_limit; {way_out}raise memory_limit"
        )


def predicted_bytes(artifact: Artifact) -> int:
    """What a first load is expected to take: its graphs, their external data and the files that its build saved."""
    folders = (artifact.folder / "graphs", artifact.files)
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def _shown(nbytes: int) -> int:
    return math.ceil(nbytes / MIB)
