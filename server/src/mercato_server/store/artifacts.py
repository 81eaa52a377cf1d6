"""Artifacts on disk: `keys/<key>.json` -> `objects/<sha256>/`, published atomically, verified at every opening."""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from mercato_plugin.frozen import canonical, thaw
from mercato_server.contract.artifact import Artifact
from mercato_server.contract.certificate import Certificate
from mercato_server.errors import ArtifactDamaged
from mercato_server.store.holding import Hold, shared
from mercato_server.store.keys import EXPORT_FORMAT
from mercato_server.store.verify import MANIFEST, damage, measured, read_key, read_manifest, stamp_of, verify_files

FOLDERS = ("keys", "objects", "locks", "staging")


class Store:
    """The artifacts under one root folder, which may be shared by several servers on one machine.

    The folder is created on the first write. What was opened is held against pruning for as long as the store is
    referred to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()  # a plugin may change the process's folder
        self._holds: dict[str, Hold] = {}

    def find(self, key: str) -> Artifact | None:
        """The artifact that was published under `key`, every file verified; None when there is none.

        Its use is recorded. Raises ArtifactDamaged naming the model and the file.
        """
        path, before = self._key_path(key), None
        while (entry := read_key(path)) is not None:
            digest, model = entry
            # An object that cannot be held may just have been taken out, its key with it.
            if self._hold(digest) or entry == before:
                artifact = self._verified(digest, model, key)
                with contextlib.suppress(OSError):  # a read-only store is never pruned
                    os.utime(path)
                return artifact
            before = entry
        return None

    def open(self, digest: str) -> Artifact:
        """The artifact with this digest, every file verified. Raises ArtifactDamaged."""
        self._hold(digest)
        return self._verified(digest, "")

    def check_unchanged(self, artifact: Artifact) -> None:
        """Raise ArtifactDamaged when a file was touched since it was verified: what was loaded may not be what it was.

        onnxruntime and plugins open the files by their names, after the store has.
        """
        for name, stamp in artifact.stamps.items():
            if stamp_of(artifact.folder / name) != stamp:
                raise damage(artifact.spec.name, name, "was changed while the model was loading")

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
        folder = self._folder("staging")
        for left in () if folder.is_symlink() else folder.iterdir():
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self, key: str, *, wait: bool = True) -> Iterator[None]:
        """Hold `key` against every other process and thread; waits until it is free, or raises BlockingIOError."""
        with (self._folder("locks") / key).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
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
            "key": key,
            "model": model,
            "plugin": plugin,
            "plugin_version": plugin_version,
            "tools": dict(tools),
            "files": measured(folder),
        }
        with self.lock("publish"):
            already = self._intact(key)
            if already is not None and already.tools == manifest["tools"]:
                return already
            digest = self._move_in(folder, canonical(manifest))
            self._write_atomically(self._key_path(key), canonical({"digest": digest, "model": model}))
        return self.open(digest)

    def set_aside(self, folder: Path) -> Path:
        """Take a folder out of the store at once, to be deleted in one's own time; `sweep` deletes it too."""
        aside = self._folder("staging") / f"aside-{secrets.token_hex(8)}"
        folder.rename(aside)
        return aside

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
            shutil.rmtree(self.set_aside(target), ignore_errors=True)
        folder.rename(target)
        flush(target.parent)
        return digest

    def _write_atomically(self, path: Path, content: bytes) -> None:
        temporary = self._folder("staging") / f"key-{secrets.token_hex(8)}"
        temporary.write_bytes(content)
        flush(temporary)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(path)
        flush(path.parent)

    def _verified(self, digest: str, model: str, key: str | None = None) -> Artifact:
        folder = self.root / "objects" / digest
        manifest = read_manifest(folder, digest, model)
        if key is not None and manifest["key"] != key:
            raise damage(model, MANIFEST, "is that of another key")
        stamps = verify_files(folder, manifest["files"], manifest["model"])
        artifact = Artifact(
            digest=digest,
            folder=folder,
            spec=thaw(json.loads((folder / "spec.json").read_bytes())),
            certificate=Certificate.from_json(json.loads((folder / "certificate.json").read_bytes())),
            stamps=stamps,
            plugin=manifest["plugin"],
            plugin_version=manifest["plugin_version"],
            tools=manifest["tools"],
        )
        self.check_unchanged(artifact)
        return artifact

    def _hold(self, digest: str) -> bool:
        """Hold an object against pruning; false when it is not there, or cannot be locked."""
        folder = self.root / "objects" / digest
        held = self._holds.get(digest)
        if held is None or not held.is_of(folder):
            held = shared(folder)
        if held is not None:
            self._holds[digest] = held
        return held is not None

    def _key_path(self, key: str) -> Path:
        return self.root / "keys" / f"{key}.json"

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _flush_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder):
        for name in files:
            flush(Path(parent) / name)
        flush(Path(parent))


def flush(path: Path) -> None:
    """Have a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
