"""What a store holds: objects with their keys, sizes and last use, and what the store did not write itself."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mercato_server.errors import ArtifactDamaged, ConfigError
from mercato_server.store.artifacts import FOLDERS
from mercato_server.store.holding import exclusive
from mercato_server.store.verify import DIGEST, MANIFEST, read_key, read_manifest

_KEY_FILE = re.compile(r"[0-9a-f]{64}\.json")


@dataclass(frozen=True)
class Key:
    """A key file; `used` is when a model was last opened by it, in seconds since 1970."""

    path: Path
    digest: str
    model: str
    used: float


@dataclass(frozen=True)
class Stored:
    """One object, or with `nbytes` None keys whose object is missing. `in_use`: a running process has it open."""

    digest: str
    model: str
    plugin: str
    plugin_version: str
    nbytes: int | None
    keys: tuple[Key, ...]
    in_use: bool

    @property
    def used(self) -> float | None:
        """When it was last opened by any of its keys; None when no key refers to it."""
        return max((key.used for key in self.keys), default=None)


@dataclass
class Inventory:
    """All of a store. `strangers` are names below the store's folder, with why they are not the store's."""

    objects: list[Stored] = field(default_factory=list)
    strangers: dict[str, str] = field(default_factory=dict)


def read(root: Path) -> Inventory:
    """Look at everything, and change nothing. What vanishes meanwhile is left out. Raises ConfigError."""
    try:
        return _read(root.resolve())
    except OSError as error:
        raise ConfigError(f"the store cannot be read: {error.strerror}") from None


def _read(root: Path) -> Inventory:
    found = Inventory()
    for path in _children(root):
        if path.name not in FOLDERS or not _is_folder(path):
            found.strangers[path.name] = "is not a folder of the store"
    keys: dict[str, list[Key]] = {}
    for key in _keys(root, found.strangers):
        keys.setdefault(key.digest, []).append(key)
    for folder in _children(root / "objects"):
        mine = tuple(keys.pop(folder.name, ()))
        with contextlib.suppress(FileNotFoundError):
            _enter(found, folder, mine)
    if "objects" not in found.strangers:
        found.objects += [Stored(name, mine[0].model, "", "", None, tuple(mine), False) for name, mine in keys.items()]
    found.objects.sort(key=lambda item: (item.model, -(item.used or 0)))
    return found


def keys_of(root: Path, digest: str) -> list[Key]:
    """The keys that refer to one object now."""
    return [key for key in _keys(root, {}) if key.digest == digest]


def _enter(found: Inventory, folder: Path, keys: tuple[Key, ...]) -> None:
    why, manifest = _own_manifest(folder)
    if why:
        found.strangers[f"objects/{folder.name}"] = why
        return
    in_use = (hold := exclusive(folder)) is None
    if hold is not None:
        hold.release()
    sizes = (path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
    found.objects.append(
        Stored(folder.name, manifest["model"], manifest["plugin"], manifest["plugin_version"], sum(sizes), keys, in_use)
    )


def _own_manifest(folder: Path) -> tuple[str, Any]:
    """Why the store did not write an object, or "" and its manifest. Files may be missing or damaged."""
    if not (DIGEST.fullmatch(folder.name) and _is_folder(folder)):
        return "is not an object of the store", None
    try:
        manifest = read_manifest(folder, folder.name, "")
    except ArtifactDamaged:
        folder.lstat()  # gone altogether, if it was taken out just now
        return "has no manifest of its own", None
    for inside in sorted(folder.rglob("*")):
        name = inside.relative_to(folder).as_posix()
        listed = inside.is_file() and name in (MANIFEST, *manifest["files"])
        if inside.is_symlink() or not (listed or inside.is_dir()):
            return f"holds {name!r}, which is not in its manifest", None
    return "", manifest


def _keys(root: Path, strangers: dict[str, str]) -> Iterator[Key]:
    for path in _children(root / "keys"):
        try:
            if not _KEY_FILE.fullmatch(path.name):
                raise ArtifactDamaged
            if (entry := read_key(path)) is not None:
                yield Key(path, *entry, path.lstat().st_mtime)
        except ArtifactDamaged:
            strangers[f"keys/{path.name}"] = "is not a key of the store"
        except FileNotFoundError:
            continue  # removed just now


def _children(folder: Path) -> list[Path]:
    """What stands in a folder; nothing where it is missing or a link."""
    return sorted(folder.iterdir()) if _is_folder(folder) else []


def _is_folder(path: Path) -> bool:
    return not path.is_symlink() and path.is_dir()
