"""Holding what the store finds on disk against what it wrote: keys, manifests, sizes, hashes and kinds of files."""

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any

from mercato_server.contract.artifact import Stamp
from mercato_server.errors import ArtifactDamaged
from mercato_server.store.keys import file_hash

MANIFEST = "manifest.json"
DIGEST = re.compile(r"[0-9a-f]{64}")
MAX_JSON_BYTES = 64 << 20


def read_key(path: Path) -> tuple[str, str] | None:
    """Digest and model name of a key file; None when there is none. Raises ArtifactDamaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        try:
            file = opened(path)
        except FileNotFoundError:
            return None
        with file:
            entry = json.loads(file.read(MAX_JSON_BYTES))
        if DIGEST.fullmatch(entry["digest"]):
            return entry["digest"], str(entry["model"])
    raise ArtifactDamaged("a key file of the artifact store is not what the store wrote; export the models again")


def read_manifest(folder: Path, digest: str, model: str) -> Any:
    """The manifest of an object, which its digest vouches for. Raises ArtifactDamaged."""
    try:
        with opened(folder / MANIFEST) as file:
            content = file.read(MAX_JSON_BYTES)
    except OSError:
        raise damage(model, MANIFEST, "is missing or is not a regular file of its own") from None
    if folder.is_symlink() or hashlib.sha256(content).hexdigest() != digest:
        raise damage(model, MANIFEST, "differs from the artifact's digest")
    return json.loads(content)


def verify_files(folder: Path, files: Mapping[str, Mapping[str, Any]], model: str) -> dict[str, Stamp | None]:
    """Hold every file against the manifest; gives the stamps of files and folders from before they were read."""
    found = set(_regular_files(folder, model)) - {MANIFEST}
    for name in sorted(found ^ files.keys()):
        raise damage(model, name, "is missing" if name in files else "is not in the manifest")
    folders = {parent.as_posix() for name in files for parent in PurePosixPath(name).parents} - {"."}
    stamps = {name: stamp_of(folder / name) for name in (*sorted(folders), *files)}
    for name, entry in files.items():
        _verify_file(folder / name, entry, name, model)
    return stamps


def _verify_file(path: Path, entry: Mapping[str, Any], name: str, model: str) -> None:
    """Open the file once; what is measured is what was opened."""
    try:
        with opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != entry["size"]:
                raise damage(model, name, f"has {size} bytes, its manifest says {entry['size']}")
            if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                raise damage(model, name, "has another SHA-256 than its manifest says")
    except OSError:
        raise damage(model, name, "is not a regular file of its own: it is a link, or has a second name") from None


def measured(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and hash of every file below a folder that is about to be published, by name."""
    return {
        name: {"size": (folder / name).stat().st_size, "sha256": file_hash(folder / name)}
        for name in sorted(_regular_files(folder, "being published"))
    }


def _regular_files(folder: Path, model: str) -> Iterator[str]:
    """Names of all files below an artifact's folder. Raises ArtifactDamaged on anything but files and folders."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent) / name
            inside = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise damage(model, inside, "is not a regular file")
            if not path.is_dir():
                yield inside


def opened(path: Path) -> BufferedReader:
    """The regular file of that name, which has no other name. Raises OSError; a pipe is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file of its own")
    return os.fdopen(descriptor, "rb")


def stamp_of(path: Path) -> Stamp | None:
    """What changes when somebody writes to a file or puts another in its place; None when it is gone."""
    try:
        facts = path.lstat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def damage(model: str, file: str, what: str) -> ArtifactDamaged:
    """The error that names a file of an object; `model` is "" when it is not known."""
    whose = f"model {model!r}: stored" if model else "stored"
    return ArtifactDamaged(f"{whose} file {file!r} {what}; export the model again")
