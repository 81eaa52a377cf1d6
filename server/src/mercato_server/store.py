"""Artifacts on disk: `keys/<key>.json` -> `objects/<sha256>/`, published atomically, verified at every opening."""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mercato_plugin import ModelSpec
from mercato_plugin.frozen import canonical, freeze, thaw
from mercato_server.contract.artifact import Artifact
from mercato_server.contract.certificate import Certificate
from mercato_server.errors import ArtifactDamaged, ConfigError

EXPORT_FORMAT = 1
"""Number of the artifact layout and of the exporter's own behaviour; raising it exports every model again."""

MANIFEST = "manifest.json"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Store:
    """The artifacts under one root folder, which may be shared by several servers on one machine.

    The folder is created on the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, key: str) -> Artifact | None:
        """The artifact that was published under `key`, every file verified; None when there is none.

        Raises ArtifactDamaged naming the model and the file.
        """
        try:
            content = self._key_path(key).read_bytes()
        except FileNotFoundError:
            return None
        return self._verified(*_read_key(content))

    def open(self, digest: str) -> Artifact:
        """The artifact with this digest, every file verified. Raises ArtifactDamaged."""
        return self._verified(digest, "")

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder on the store's file system; it is removed afterwards."""
        folder = self._folder("staging") / secrets.token_hex(8)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what exporters that were killed left in the staging folder; only for the one that exports."""
        for left in self._folder("staging").iterdir():
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold `key` against every other process and thread; waits until it is free."""
        with (self._folder("locks") / key).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def publish(
        self, folder: Path, key: str, *, model: str, plugin: str, plugin_version: str, tools: Mapping[str, str]
    ) -> Artifact:
        """Turn a folder made by `staging` into an object and point `key` at it.

        An intact object that another process published under `key` with the same tools is used instead.
        The folder is moved away.
        """
        manifest = {
            "format": EXPORT_FORMAT,
            "model": model,
            "plugin": plugin,
            "plugin_version": plugin_version,
            "tools": dict(tools),
            "files": _measured(folder),
        }
        with self.lock("publish"):
            already = self._intact(key)
            if already is not None and already.tools == manifest["tools"]:
                return already
            digest = self._move_in(folder, canonical(manifest))
            self._write_atomically(self._key_path(key), canonical({"digest": digest, "model": model}))
        return self._verified(digest, model)

    def _intact(self, key: str) -> Artifact | None:
        try:
            return self.find(key)
        except ArtifactDamaged:
            return None

    def _move_in(self, folder: Path, manifest: bytes) -> str:
        """Flush the folder to disk and rename it to its digest, in place of a damaged object of that name."""
        (folder / MANIFEST).write_bytes(manifest)
        _flush_tree(folder)
        digest = hashlib.sha256(manifest).hexdigest()
        target = self._folder("objects") / digest
        if target.exists():
            replaced = self._folder("staging") / f"replaced-{secrets.token_hex(8)}"
            target.rename(replaced)
            shutil.rmtree(replaced, ignore_errors=True)
        folder.rename(target)
        _flush(target.parent)
        return digest

    def _write_atomically(self, path: Path, content: bytes) -> None:
        temporary = self._folder("staging") / f"key-{secrets.token_hex(8)}"
        temporary.write_bytes(content)
        _flush(temporary)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(path)
        _flush(path.parent)

    def _verified(self, digest: str, model: str) -> Artifact:
        folder = self.root / "objects" / digest
        manifest = _read_manifest(folder, digest, model)
        _verify_files(folder, manifest["files"], manifest["model"])
        return Artifact(
            digest=digest,
            folder=folder,
            spec=thaw(json.loads((folder / "spec.json").read_bytes())),
            certificate=Certificate.from_json(json.loads((folder / "certificate.json").read_bytes())),
            plugin=manifest["plugin"],
            plugin_version=manifest["plugin_version"],
            tools=manifest["tools"],
        )

    def _key_path(self, key: str) -> Path:
        return self.root / "keys" / f"{key}.json"

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


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

    Symbolic links are followed; compiled Python files do not count.
    """
    if path.is_file():
        return _file_hash(path)
    names = sorted(_files_below(path))
    return hashlib.sha256(canonical([[name, _file_hash(path / name)] for name in names])).hexdigest()


def _read_key(content: bytes) -> tuple[str, str]:
    """Digest and model name of a key file."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        entry = json.loads(content)
        if _DIGEST.fullmatch(entry["digest"]):
            return entry["digest"], str(entry["model"])
    raise ArtifactDamaged("a key file of the artifact store is not what the store wrote; export the models again")


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
            yield from (path.relative_to(folder).as_posix() for path in kept)


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _regular_files(folder: Path, model: str) -> Iterator[str]:
    """Names of all files below an artifact's folder. Raises ArtifactDamaged on anything but files and folders."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent) / name
            inside = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise _damage(model, inside, "is not a regular file")
            if not path.is_dir():
                yield inside


def _measured(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        name: {"size": (folder / name).stat().st_size, "sha256": _file_hash(folder / name)}
        for name in sorted(_regular_files(folder, "being published"))
    }


def _read_manifest(folder: Path, digest: str, model: str) -> Any:
    path = folder / MANIFEST
    if folder.is_symlink() or path.is_symlink() or not path.is_file():
        raise _damage(model, MANIFEST, "is missing or is not a regular file")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise _damage(model, MANIFEST, "differs from the artifact's digest")
    return json.loads(content)


def _verify_files(folder: Path, files: Mapping[str, Mapping[str, Any]], model: str) -> None:
    found = set(_regular_files(folder, model)) - {MANIFEST}
    for name in sorted(found ^ files.keys()):
        raise _damage(model, name, "is missing" if name in files else "is not in the manifest")
    for name, entry in files.items():
        size = (folder / name).stat().st_size
        if size != entry["size"]:
            raise _damage(model, name, f"has {size} bytes, its manifest says {entry['size']}")
        if _file_hash(folder / name) != entry["sha256"]:
            raise _damage(model, name, "has another SHA-256 than its manifest says")


def _damage(model: str, file: str, what: str) -> ArtifactDamaged:
    whose = f"model {model!r}: stored" if model else "stored"
    return ArtifactDamaged(f"{whose} file {file!r} {what}; export the model again")


def _flush_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder):
        for name in files:
            _flush(Path(parent) / name)
        _flush(Path(parent))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
