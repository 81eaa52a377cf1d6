"""Which model folders are served: those that the operator names, or the highest readable and those labels mean."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mercato_plugin import FolderError, ModelFolder, folder_versions, read_folder
from mercato_server.contract.plugin import Numbered

MAX_TOLD = 8
"""Versions that an error names."""


@dataclass(frozen=True)
class ServedFolders:
    """The `contract.plugin.Folders` of a server; without a `root` no model has a folder.

    Of a model there are served the `versions` that are named for it, or else those of `labelled` and the highest that
    can be read; those of `kept` in any case, and with `alone` nothing else. Every call looks at the disk anew.
    """

    root: Path | None = None
    versions: Mapping[str, Collection[int]] = field(default_factory=dict)
    labelled: Mapping[str, Collection[int]] = field(default_factory=dict)
    kept: Collection[Numbered] = ()
    alone: bool = False

    def __call__(self, model: str) -> Mapping[int, ModelFolder | FolderError] | None:
        """The folders of a model that are served, highest first; None when it has none at all. Raises FolderError."""
        if self.root is None:
            return None
        kept = {version for name, version in self.kept if name == model}
        if self.alone:  # the models that a plugin brings itself have no folder
            return _read_all(self.root, model, kept) or None
        there = folder_versions(self.root, model)
        if not there:
            return None
        named = set(self.versions.get(model, ()))
        labelled = set() if named else set(self.labelled.get(model, ()))
        found = {} if named else _highest(self.root, model, there)
        found |= _read_all(self.root, model, ((named | labelled | kept) & set(there)) - set(found))
        absent = {number: _absent(model, number, there) for number in named - set(there)}
        return dict(sorted({**found, **absent}.items(), reverse=True))

    def keeping(self, served: Collection[Numbered], *, alone: bool = False) -> "ServedFolders":
        """The same, and what is served already; or that `alone`."""
        return replace(self, kept=tuple(served), alone=alone)

    def to_json(self) -> dict[str, Any]:
        """Plain data for another process on this machine; `from_json` is its inverse."""
        root = None if self.root is None else str(self.root)
        return {
            "root": root,
            "versions": {model: list(numbers) for model, numbers in self.versions.items()},
            "labelled": {model: list(numbers) for model, numbers in self.labelled.items()},
            "kept": [list(numbered) for numbered in self.kept],
            "alone": self.alone,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ServedFolders":
        """What `to_json` wrote."""
        root = None if data["root"] is None else Path(data["root"])
        kept = tuple((model, version) for model, version in data["kept"])
        return cls(root, data["versions"], data["labelled"], kept, data["alone"])


def _highest(root: Path, model: str, there: Sequence[int]) -> dict[int, ModelFolder | FolderError]:
    """The highest version that can be read, and those above it with what is wrong; `there` is ascending."""
    found: dict[int, ModelFolder | FolderError] = {}
    for version in reversed(there):
        found[version] = _read(root, model, version)
        if isinstance(found[version], ModelFolder):
            break
    return found


def _read_all(root: Path, model: str, versions: Collection[int]) -> dict[int, ModelFolder | FolderError]:
    return {version: _read(root, model, version) for version in versions}


def _read(root: Path, model: str, version: int) -> ModelFolder | FolderError:
    try:
        return read_folder(root, model, version)
    except FolderError as error:
        return error


def _absent(model: str, version: int, there: Sequence[int]) -> FolderError:
    """`there` are the versions that have a folder, ascending."""
    told = ", ".join(map(str, there[: -MAX_TOLD - 1 : -1]))
    more = f" and {len(there) - MAX_TOLD} more" if len(there) > MAX_TOLD else ""
    way_out = f"bring it back, or name versions that are there in `versions` of [models.{model!r}]"
    return FolderError(f"model folder {model} {version} is not there; there are {told}{more}: {way_out}")
