"""Model folders: what training wrote, `<models-dir>/<model>/<version>/`, published whole and verified before use.

A folder has `files/`, which `build` reads, `metrics.json`, flat names to numbers measured on held-out data, and
`manifest.json`, the size and SHA-256 of each of these files.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from numbers import Real
from pathlib import Path, PurePosixPath
from typing import Any

from mercato_plugin.errors import FolderError
from mercato_plugin.frozen import canonical
from mercato_plugin.spec import MAX_NAME, MAX_VERSION, MODEL_NAME
from mercato_plugin.staging import remove_empty, staging_in

FORMAT = 1
FILES = "files"
MANIFEST = "manifest.json"
METRICS = "metrics.json"

MAX_JSON = 1 << 20
"""Bytes of a manifest, and of metrics."""

MAX_METRICS = 2048
"""Two for each of the 1000 labels that training takes, and those of the whole."""

MAX_METRIC_NAME = 128
MAX_FILE_NAME = 1024

_NUMBER = re.compile(r"[1-9][0-9]{0,9}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """One file as the manifest has it; `name` is relative to the folder, with `/` between its parts."""

    name: str
    nbytes: int
    sha256: str


@dataclass(frozen=True)
class ModelFolder:
    """One trained version of a model, as its manifest says; `verify` holds the files against it.

    `made` is what training noted of itself, such as options, rows and versions of tools.
    """

    model: str
    version: int
    path: Path
    entries: tuple[Entry, ...]
    metrics: Mapping[str, float]
    made: Mapping[str, Any]

    @property
    def files(self) -> Path:
        """The folder that `build` reads."""
        return self.path / FILES

    @property
    def digest(self) -> str:
        """SHA-256 over what `build` can read, hexadecimal: names and contents of `files/`."""
        return hashlib.sha256(canonical([[e.name, e.sha256] for e in self.entries if e.name != METRICS])).hexdigest()

    def verify(self) -> None:
        """Hold every file against the manifest. Raises FolderError naming the first that differs."""
        known = {entry.name for entry in self.entries}
        try:
            found = set(_names(self.path)) - {MANIFEST}
            if stray := sorted(found ^ known):
                where = "is not in the manifest" if stray[0] in found else "is missing"
                raise _damaged(self.model, self.version, f"{_shown(stray[0])} {where}")
        except _NoFileError as error:
            raise _damaged(self.model, self.version, f"{error}") from None
        for entry in self.entries:
            if _measured(self.path, entry.name) != entry:
                what = f"{_shown(entry.name)} is not the file that training wrote"
                raise _damaged(self.model, self.version, what)


def read_folder(models_dir: Path, model: str, version: int) -> ModelFolder:
    """One version by its manifest and metrics alone. Raises FolderError for one that is absent or damaged."""
    _check_model(model)
    path = models_dir / model / str(version)
    if path.is_symlink():
        raise _damaged(model, version, "it is a symbolic link, expected the folder itself")
    manifest = _parsed(_content(path, MANIFEST, model, version), MANIFEST, model, version)
    if not is_format(manifest.get("format"), FORMAT) or manifest.get("model") != model:
        raise _damaged(model, version, f"{MANIFEST} is not one of format {FORMAT} of {model!r}")
    entries = _entries(manifest.get("files"), model, version)
    metrics = _content(path, METRICS, model, version)
    if Entry(METRICS, len(metrics), hashlib.sha256(metrics).hexdigest()) not in entries:
        raise _damaged(model, version, f"{METRICS} is not the file that training wrote")
    checked = _metrics(_parsed(metrics, METRICS, model, version), model, version)
    made = manifest.get("made")
    return ModelFolder(model, version, path, entries, checked, made if isinstance(made, dict) else {})


def folder_versions(models_dir: Path, model: str) -> list[int]:
    """The numbers of a model's folders, ascending; what is still being written does not count.

    Raises FolderError where they cannot be listed.
    """
    _check_model(model)
    folder = models_dir / model
    try:
        numbers = [int(name) for name in os.listdir(folder) if _NUMBER.fullmatch(name) and (folder / name).is_dir()]
    except (FileNotFoundError, NotADirectoryError) as error:
        if os.path.lexists(folder):
            expected = "expected a folder that has one of each version"
            raise FolderError(f"model folders of {model} cannot be read: {error.strerror}; {expected}") from None
        return []
    except (OSError, ValueError) as error:  # a ValueError for a zero byte in the path
        what = getattr(error, "strerror", error)
        raise FolderError(f"model folders of {model} cannot be read: {what}") from None
    return sorted(number for number in numbers if number <= MAX_VERSION)


@contextmanager
def staged_folder(models_dir: Path, model: str) -> Iterator[Path]:
    """A folder beside the versions with an empty `files/`, to be filled and published; gone if it was not.

    Those of processes that were killed go first. Raises FolderError where it cannot be made.
    """
    _check_model(model)
    try:
        staging, held = staging_in(models_dir / model)
    except OSError as error:
        raise FolderError(f"model folders of {model} cannot be written: {error.strerror}") from None
    try:
        staging.chmod(0o755)
        (staging / FILES).mkdir()
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(held)
        remove_empty(models_dir / model)


def publish_folder(
    staging: Path, models_dir: Path, model: str, metrics: Mapping[str, Any], made: Mapping[str, Any]
) -> ModelFolder:
    """Make the next version of `staging`, a folder beside the versions that holds `files/`, in one step.

    `metrics` maps names to finite numbers; `made` is JSON data. Raises FolderError for what no reader would take.
    """
    _check_model(model)
    checked = _metrics(metrics, model, 0)
    _write(staging / METRICS, json.dumps(checked, indent=1, sort_keys=True), model)
    entries = _written(staging, model)
    files = {entry.name: {"bytes": entry.nbytes, "sha256": entry.sha256} for entry in entries}
    manifest = {"format": FORMAT, "model": model, "files": files, "made": dict(made)}
    _write(staging / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False), model)
    for parent, _, _ in os.walk(staging):
        _sync(Path(parent))
    version = _renamed(staging, models_dir, model)
    return ModelFolder(model, version, models_dir / model / str(version), entries, checked, dict(made))


def is_format(found: Any, expected: int) -> bool:
    """Whether a file says that it is of a format; true and 1.0 equal 1 and are none."""
    return type(found) is int and found == expected


class _NoFileError(Exception):
    """Something in a folder that is neither a regular file nor a folder; the text names it."""


def _renamed(staging: Path, models_dir: Path, model: str) -> int:
    """Of two trainings that end together each gets a number of its own: a rename onto a folder with files fails."""
    version = max(folder_versions(models_dir, model), default=0) + 1
    while version <= MAX_VERSION:
        try:
            staging.rename(models_dir / model / str(version))
        except OSError:
            if not os.path.lexists(models_dir / model / str(version)):
                raise
            version += 1
        else:
            _sync(models_dir / model)
            return version
    raise FolderError(f"model folders of {model}: there is no number left, {MAX_VERSION} is the highest")


def _written(staging: Path, model: str) -> tuple[Entry, ...]:
    """What stands in a folder that is about to be published, on the disk for good."""
    try:
        names = sorted(set(_names(staging)) - {MANIFEST})
    except _NoFileError as error:
        raise _damaged(model, 0, f"{error}") from None
    for name in names:
        _sync(staging / name)
    entries = [entry for name in names if (entry := _measured(staging, name)) is not None]
    listed = {entry.name: {"bytes": entry.nbytes, "sha256": entry.sha256} for entry in entries}
    return _entries(listed, model, 0)


def _measured(folder: Path, name: str) -> Entry | None:
    """A file as it is; None for one that cannot be read or is no regular file."""
    with contextlib.suppress(OSError), _opened(folder / name) as file:
        return Entry(name, os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())
    return None


def _names(folder: Path) -> Iterator[str]:
    """Every file below a folder. Raises _NoFileError for a symbolic link, and for what is neither file nor folder."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent) / name
            inside = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise _NoFileError(f"{_shown(inside)} is neither a file nor a folder of its own")
            if stat.S_ISREG(mode):
                yield inside


def _entries(files: Any, model: str, version: int) -> tuple[Entry, ...]:
    if not isinstance(files, dict) or METRICS not in files:
        raise _damaged(model, version, f"{MANIFEST} lists no {METRICS}")
    return tuple(_checked_entry(name, facts, model, version) for name, facts in sorted(files.items()))


def _checked_entry(name: str, facts: Any, model: str, version: int) -> Entry:
    nbytes = facts.get("bytes") if isinstance(facts, dict) else None
    sha256 = facts.get("sha256") if isinstance(facts, dict) else None
    if not (name == METRICS or _is_inside(name)):
        expected = f"expected names below {FILES}/ of at most {MAX_FILE_NAME} printable characters"
        raise _damaged(model, version, f"the name of a file is not valid; {expected}")
    if type(nbytes) is not int or nbytes < 0 or not (isinstance(sha256, str) and _DIGEST.fullmatch(sha256)):
        raise _damaged(model, version, f"{MANIFEST} has no size and SHA-256 of {_shown(name)}")
    return Entry(name, nbytes, sha256)


def _is_inside(name: str) -> bool:
    """Whether it names a file below `files/` and nothing else, in one spelling only."""
    parts = PurePosixPath(name).parts
    is_plain = len(name) <= MAX_FILE_NAME and name.isprintable() and "\\" not in name
    return is_plain and len(parts) > 1 and parts[0] == FILES and ".." not in parts and "/".join(parts) == name


def _metrics(found: Mapping[str, Any], model: str, version: int) -> dict[str, float]:
    if len(found) > MAX_METRICS:
        raise _damaged(model, version, f"{METRICS} has {len(found)} metrics, expected at most {MAX_METRICS}")
    return {name: _metric(name, value, model, version) for name, value in found.items()}


def _metric(name: str, value: Any, model: str, version: int) -> float:
    if not (0 < len(name) <= MAX_METRIC_NAME and name.isprintable() and name == name.strip()):
        expected = f"at most {MAX_METRIC_NAME} printable characters, no blank at either end"
        raise _damaged(model, version, f"a metric is called {_shown(name)}, expected {expected}")
    with contextlib.suppress(OverflowError):
        if type(value) is not bool and isinstance(value, Real) and math.isfinite(value):
            return float(value)
    raise _damaged(model, version, f"metric {_shown(name)} is not a finite number")


def _content(folder: Path, name: str, model: str, version: int) -> bytes:
    try:
        with _opened(folder / name) as file:
            content = file.read(MAX_JSON + 1)
    except OSError:
        raise _damaged(model, version, f"{name} is missing or cannot be read") from None
    if len(content) > MAX_JSON:
        raise _damaged(model, version, f"{name} has more than {MAX_JSON} bytes")
    return content


def _parsed(content: bytes, name: str, model: str, version: int) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise _damaged(model, version, f"{name} is not JSON") from None
    if not isinstance(found, dict):
        raise _damaged(model, version, f"{name} is {type(found).__name__}, expected an object")
    return found


def _opened(path: Path) -> BufferedReader:
    """The regular file of that name. Raises OSError for a symbolic link; a pipe is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(descriptor, "rb")


def _write(path: Path, text: str, model: str) -> None:
    try:
        content = f"{text}\n".encode()
    except UnicodeEncodeError:
        raise _damaged(model, 0, f"{path.name} would hold a lone surrogate, expected Unicode text") from None
    if len(content) > MAX_JSON:
        raise _damaged(model, 0, f"{path.name} would have {len(content)} bytes, expected at most {MAX_JSON}")
    path.write_bytes(content)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_model(model: str) -> None:
    """A name is part of a path."""
    if not MODEL_NAME.fullmatch(model) or len(model) > MAX_NAME:
        raise FolderError(f"{_shown(model)} is no name of a model, such as pricing.linear")


def _shown(name: str) -> str:
    """For an error message: control characters escaped, cut to 80 characters."""
    return ascii(name if len(name) <= 80 else f"{name[:77]}...")


def _damaged(model: str, version: int, why: str) -> FolderError:
    where = f"{model} {version}" if version else model
    return FolderError(f"model folder {where}: {why}; train the model again or bring the folder back")
