"""The folder of a shop: what may be replaced, and how a new one appears complete or not at all."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mercato_client.errors import InvalidInput, Violation
from mercato_shop.card import CARD, README, is_card

TABLES = ("products", "users", "interactions", "reviews", "messages", "sales")
IMAGES = "images"
OWN = {CARD, README, IMAGES, *(f"{table}.parquet" for table in TABLES)}


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, to be filled; it becomes `out` when the block ends without an error.

    Raises InvalidInput, field `out`, where `out` holds what is no shop, or cannot be written.
    """
    out = out.resolve()
    try:
        _check(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as beside:
            new = Path(beside, "new")
            new.mkdir()
            yield new
            if out.exists():
                out.rename(Path(beside, "old"))
            new.rename(out)
    except OSError as error:
        raise _refused(out, f"cannot be written: {error.strerror or error}") from error


def _check(out: Path) -> None:
    """Raise InvalidInput where replacing `out` would remove what no shop holds."""
    if not out.exists():
        return
    if not out.is_dir():
        raise _refused(out, "is a file, expected a folder")
    found = {path.name for path in out.iterdir()}
    if found and not is_card(out / CARD):
        raise _refused(out, "is not empty and holds no shop, expected a new folder or one that this command wrote")
    if strange := sorted(found - OWN):
        raise _refused(out, f"holds {strange[0]!r}, which is no part of a shop; move it elsewhere")


def _refused(out: Path, why: str) -> InvalidInput:
    return InvalidInput.of(Violation("out", f"{str(out)!r} {why}"))
