"""The memory that models may take together: promised before a load, held to what was measured after it."""

import math
from dataclasses import dataclass

from mercato_server.contract.artifact import Artifact
from mercato_server.errors import MemoryExceeded

MIB = 1024 * 1024


@dataclass(eq=False)
class Reservation:
    """What one load holds, in bytes: what it was promised, then what it was measured to take."""

    digest: str
    model: str
    nbytes: int


class MemoryBudget:
    """Who holds how much; None as its limit refuses nothing. One thread uses it.

    A digest may be held more than once: by what serves and by what is to take its place.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._held: set[Reservation] = set()
        self._measured: dict[str, int] = {}

    @property
    def used(self) -> int:
        """Bytes that are promised or taken."""
        return sum(held.nbytes for held in self._held)

    def reserve(self, digest: str, predicted: int, model: str) -> Reservation:
        """Promise a load its memory: what the digest was measured to take before, else `predicted`.

        Raises MemoryExceeded when it does not fit; nothing is promised then.
        """
        promised = Reservation(digest, model, self._measured.get(digest, predicted))
        self._check(promised, "is expected to take")
        self._held.add(promised)
        return promised

    def settle(self, reservation: Reservation, nbytes: int) -> None:
        """Put what a load was measured to take in the place of what it was promised; 0 leaves that as it is.

        Raises MemoryExceeded when it does not fit; it is counted until `release` all the same.
        """
        if not nbytes:
            return
        self._measured[reservation.digest] = reservation.nbytes = nbytes
        self._check(reservation, "was measured to take")

    def release(self, reservation: Reservation) -> None:
        """Give back what a load holds."""
        self._held.remove(reservation)

    def _check(self, wanted: Reservation, how: str) -> None:
        needed = wanted.nbytes
        held = [other for other in self._held if other is not wanted]
        own = sum(other.nbytes for other in held if other.model == wanted.model)
        others = sum(other.nbytes for other in held) - own
        if self.limit is None or needed + own + others <= self.limit:
            return
        holders = f"what serves of it holds {_shown(own)} MiB and " if own else ""
        holders += f"other models hold {_shown(others)} MiB"
        raise MemoryExceeded(
            f"model {wanted.model!r} {how} {_shown(needed)} MiB, but {holders} of the "
            f"{self.limit // MIB} MiB of memory_limit; {self._way_out(wanted, own)}raise memory_limit"
        )

    def _way_out(self, wanted: Reservation, own: int) -> str:
        """What makes room, to be continued with raising the limit."""
        assert self.limit is not None
        if wanted.nbytes > self.limit:
            return ""
        if wanted.nbytes + own <= self.limit:
            return "unload another model with `mercato admin unload`, or "
        return f"unload what serves of it with `mercato admin unload {wanted.model}` before it is loaded, or "


def predicted_bytes(artifact: Artifact) -> int:
    """What a first load is expected to take: its graphs, their external data and the files that its build saved."""
    folders = (artifact.folder / "graphs", artifact.files)
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def _shown(nbytes: int) -> int:
    return math.ceil(nbytes / MIB)
