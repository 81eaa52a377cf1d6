"""What an artifact is found under: the hash of everything that enters an export."""

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mercato_plugin import ModelSpec
from mercato_plugin.frozen import canonical, freeze
from mercato_server.errors import ConfigError

EXPORT_FORMAT = 2
"""Number of the artifact layout and of the exporter's own behaviour; raising it exports every model again."""


def artifact_key(
    plugin: str,
    version: str,
    source_hash: str,
    model_folder_hash: str | None,
    spec: ModelSpec,
    settings: Mapping[str, Any],
) -> str:
    """The key that an export of exactly these things is found under, hexadecimal.

    `settings` are those that enter the build; a path among them counts by the content it points to.
    Raises ConfigError for a setting that has no canonical form.
    """
    parts = {
        "format": EXPORT_FORMAT,
        "plugin": plugin,
        "plugin_version": version,
        "source": source_hash,
        "model_folder": model_folder_hash,
        "spec": freeze(spec),
        "settings": {name: _keyed(name, value) for name, value in settings.items()},
    }
    return hashlib.sha256(canonical(parts)).hexdigest()


def tree_hash(path: Path) -> str:
    """SHA-256 over a file's content, or over names and contents of all files below a folder, hexadecimal.

    Symbolic links are followed; compiled Python files do not count, nor what is no file, such as a pipe.
    """
    if path.is_file():
        return file_hash(path)
    names = sorted(_files_below(path))
    return hashlib.sha256(canonical([[name, file_hash(path / name)] for name in names])).hexdigest()


def _keyed(name: str, value: Any) -> Any:
    """A setting's value as canonical JSON data."""
    if isinstance(value, Path):
        return {"content": tree_hash(value) if value.exists() else None}
    if isinstance(value, Mapping):
        return {str(part): _keyed(name, item) for part, item in value.items()}
    if isinstance(value, list | tuple):
        return [_keyed(name, item) for item in value]
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ConfigError(
        f"setting {name!r} holds {type(value).__name__}, which cannot enter the key of an artifact; "
        "use numbers, strings, paths, lists or mappings, or declare it with build=False"
    )


def _files_below(folder: Path) -> Iterator[str]:
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else [name for name in folders if name != "__pycache__"]
        if real not in seen:
            seen.add(real)
            kept = (Path(parent, name) for name in files if not name.endswith(".pyc"))
            yield from (path.relative_to(folder).as_posix() for path in kept if path.is_file())


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
