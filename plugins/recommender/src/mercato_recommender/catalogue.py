"""What a model folder says of itself: the items it knows, by popularity, and how its users are named."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mercato_plugin import FolderError

FILE = "catalogue.json"
FORMAT = 1
MAX_BYTES = 256 << 20
"""Size of the file, at most."""

MOST_ITEMS = 1_000_000


@dataclass(frozen=True)
class Catalogue:
    """`items` are ids, the most popular first; an item's number is its place.

    `hashed` says whether the known users are kept under hashed ids.
    """

    items: tuple[str, ...]
    hashed: bool = False

    @property
    def absent(self) -> int:
        """The number that stands for no item."""
        return len(self.items)

    def plain(self) -> dict[str, Any]:
        """For the file."""
        return {"format": FORMAT, **asdict(self)}


class Numbers:
    """Finds the numbers of ids."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._numbers = {item: number for number, item in enumerate(catalogue.items)}

    def known(self, ids: Sequence[str]) -> list[int]:
        """The numbers of the ids that are known, each once, in the order of their first places."""
        found = dict.fromkeys(map(self._numbers.get, ids))
        found.pop(None, None)
        return [number for number in found if number is not None]


def read_catalogue(path: Path, model: str) -> Catalogue:
    """The catalogue in a file. Raises FolderError."""
    found = _parsed(path, model)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise damaged(model, path.name, f"is not of format {FORMAT}")
    items: Any = found.get("items")
    hashed = found.get("hashed")
    if not is_list_of_ids(items) or not 1 <= len(items) <= MOST_ITEMS:
        raise damaged(model, path.name, f"items is no list of 1 to {MOST_ITEMS} different strings")
    if not isinstance(hashed, bool):
        raise damaged(model, path.name, f"hashed is {hashed!r}, expected true or false")
    return Catalogue(tuple(items), hashed)


def read_ids(path: Path, model: str) -> tuple[str, ...]:
    """A list of different strings in a file. Raises FolderError."""
    found = _parsed(path, model)
    if not is_list_of_ids(found):
        raise damaged(model, path.name, "is no list of different strings")
    return tuple(found)


def is_list_of_ids(values: Any) -> bool:
    """Whether it is a list of different strings, none of them empty."""
    is_list = isinstance(values, list) and all(isinstance(value, str) and value for value in values)
    return is_list and len(set(values)) == len(values)


def damaged(model: str, file: str, why: str) -> FolderError:
    """The error for a file that is not what training wrote."""
    return FolderError(f"{model}: {file}: {why}; train the model again")


def _parsed(path: Path, model: str) -> Any:
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise damaged(model, path.name, f"is no file of at most {MAX_BYTES} bytes")
        return json.loads(path.read_bytes())
    except OSError:
        raise damaged(model, path.name, "is missing or cannot be read") from None
    except (ValueError, RecursionError):
        raise damaged(model, path.name, "is not JSON") from None
