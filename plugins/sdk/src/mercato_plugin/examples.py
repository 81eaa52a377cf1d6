"""Examples as a file: requests with the answers that training recorded, kept in the model folder for the certificate.

The file is JSON, with NaN and infinities as Python writes them: a missing number is NaN in many requests. Numbers come
back exactly as they were written; arrays come back as nested lists.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mercato_plugin.errors import FolderError
from mercato_plugin.folder import is_format
from mercato_plugin.model import Example

FORMAT = 1
MAX_BYTES = 16 << 20
"""Size of the file, at most."""

MAX_DEPTH = 8
"""Lists inside lists, at most."""

_PARTS = ("inputs", "parameters", "outputs")


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Write the examples in place of the file.

    Values are numbers, strings, None, numpy arrays and scalars, and lists of these. Raises FolderError for another
    value, and for more than `MAX_BYTES`.
    """
    plain = [_plain_example(example, f"{path.name}: example {place}") for place, example in enumerate(examples)]
    try:
        content = json.dumps({"format": FORMAT, "examples": plain}, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise FolderError(f"{path.name}: a text holds half of a surrogate pair, expected Unicode") from None
    if len(content) > MAX_BYTES:
        raise FolderError(f"{path.name}: {len(content)} bytes of examples, expected at most {MAX_BYTES}; record fewer")
    path.write_bytes(content)


def read_examples(path: Path) -> list[Example]:
    """The examples that `write_examples` wrote. Raises FolderError for what is no such file."""
    found = _parsed(path)
    is_known = isinstance(found, dict) and is_format(found.get("format"), FORMAT)
    if not is_known or not isinstance(found.get("examples"), list):
        raise FolderError(f"{path.name} is no file of examples in format {FORMAT}; train the model again")
    return [_example(item, f"{path.name}: example {place}") for place, item in enumerate(found["examples"])]


def _plain_example(example: Example, where: str) -> dict[str, Any]:
    parts = {part: getattr(example, part) for part in _PARTS}
    return {part: None if values is None else _fields(values, f"{where}: {part}") for part, values in parts.items()}


def _example(item: Any, where: str) -> Example:
    if not isinstance(item, dict) or set(item) != set(_PARTS):
        raise FolderError(f"{where} has not the parts {', '.join(_PARTS)}")
    inputs, parameters = (_fields(item[part], f"{where}: {part}") for part in ("inputs", "parameters"))
    outputs = None if item["outputs"] is None else _fields(item["outputs"], f"{where}: outputs")
    return Example(inputs, parameters, outputs)


def _fields(values: Any, where: str) -> dict[str, Any]:
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise FolderError(f"{where} is {type(values).__name__}, expected values by name")
    return {name: _plain(value, f"{where}.{name}", MAX_DEPTH) for name, value in values.items()}


def _plain(value: Any, where: str, depth: int) -> Any:
    """The value as JSON has it; what JSON has not is refused."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple) and depth:
        return [_plain(item, where, depth - 1) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise FolderError(f"{where} holds {_shown(value)}, expected numbers, strings, None and lists of these")


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"lists more than {MAX_DEPTH} deep"
    return type(value).__name__


def _parsed(path: Path) -> Any:
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise FolderError(f"{path.name} is no file of at most {MAX_BYTES} bytes; train the model again")
        return json.loads(path.read_bytes())
    except OSError:
        raise FolderError(f"{path.name} is missing or cannot be read; train the model again") from None
    except FolderError:
        raise
    except (ValueError, RecursionError):
        raise FolderError(f"{path.name} is not JSON; train the model again") from None
