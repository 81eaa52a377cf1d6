"""Reading the small JSON files of a model folder: bounded, checked, and refused in words that name no path."""

import json
import re
from pathlib import Path
from typing import Any

from mercato_plugin import FolderError

FORMAT = 1
MAX_BYTES = 64 << 20
"""Size of a file, at most."""

FEWEST_LABELS, MOST_LABELS = 2, 100

_TAG = re.compile("[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")


def read_facts(path: Path, model: str) -> dict[str, Any]:
    """The object in the file, of our format. Raises FolderError."""
    found = _parsed(path, model)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise damaged(model, path.name, f"is not of format {FORMAT}")
    return found


def strings(found: dict[str, Any], key: str, path: Path, model: str) -> tuple[str, ...]:
    """A list of different strings, which may be empty. Raises FolderError."""
    values: Any = found.get(key)
    is_list = isinstance(values, list) and all(isinstance(value, str) for value in values)
    if not is_list or len(set(values)) != len(values):
        raise damaged(model, path.name, f"{key} is no list of different strings")
    return tuple(values)


def labels(found: dict[str, Any], path: Path, model: str) -> tuple[str, ...]:
    """The model's labels. Raises FolderError."""
    names = strings(found, "labels", path, model)
    if not FEWEST_LABELS <= len(names) <= MOST_LABELS:
        raise damaged(model, path.name, f"{len(names)} labels, expected {FEWEST_LABELS} to {MOST_LABELS}")
    return names


def is_language(tag: str) -> bool:
    """Whether the text has the form of a BCP 47 tag, such as en, zh or zh-Hans."""
    return _TAG.fullmatch(tag) is not None


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
    except FolderError:
        raise
    except (ValueError, RecursionError):
        raise damaged(model, path.name, "is not JSON") from None
