"""What a model folder of vision.category says of its network: labels, served size, channels within the blocks."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mercato_plugin import FolderError

MODEL = "vision.category"
FILE = "category.json"
WEIGHTS = "category.safetensors"
FORMAT = 1
MAX_BYTES = 1 << 20
FEWEST_LABELS, MOST_LABELS = 2, 1000
SIZES = (40, 512)
"""Pixels of a side that is served. Below 33 one pixel is left for the last batch norms, which need two values."""

BLOCKS = 8
MOST_CHANNELS = 512
SHOWN = 5


@dataclass(frozen=True)
class Facts:
    """`size` is the side of the square that the network sees, `inner` the channels within its blocks."""

    labels: tuple[str, ...]
    size: int
    inner: tuple[int, ...]

    @property
    def shown(self) -> int:
        """How many labels are answered."""
        return min(SHOWN, len(self.labels))

    def plain(self) -> dict[str, Any]:
        """For the file."""
        return {"format": FORMAT, **asdict(self)}


def read_facts(path: Path) -> Facts:
    """The facts in a file. Raises FolderError."""
    found = _parsed(path)
    labels, size, inner = found.get("labels"), found.get("size"), found.get("inner")
    if not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise damaged(path.name, "labels is no list of strings")
    if not (FEWEST_LABELS <= len(labels) <= MOST_LABELS and len(set(labels)) == len(labels)):
        raise damaged(path.name, f"expected {FEWEST_LABELS} to {MOST_LABELS} different labels")
    if not (isinstance(size, int) and _is_between(size, *SIZES)):
        raise damaged(path.name, f"size is not from {SIZES[0]} to {SIZES[1]}")
    if not (isinstance(inner, list) and len(inner) == BLOCKS and all(_is_between(n, 1, MOST_CHANNELS) for n in inner)):
        raise damaged(path.name, f"inner is no list of {BLOCKS} numbers from 1 to {MOST_CHANNELS}")
    return Facts(tuple(labels), size, tuple(inner))


def damaged(file: str, why: str) -> FolderError:
    """The error for a file that is not what training wrote."""
    return FolderError(f"{MODEL}: {file}: {why}; train the model again")


def _is_between(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _parsed(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise damaged(path.name, f"is no file of at most {MAX_BYTES} bytes")
        found = json.loads(path.read_bytes())
    except OSError:
        raise damaged(path.name, "is missing or cannot be read") from None
    except FolderError:
        raise
    except (ValueError, RecursionError):
        raise damaged(path.name, "is not JSON") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise damaged(path.name, f"is not of format {FORMAT}")
    return found
