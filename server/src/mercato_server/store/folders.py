"""Which model folders are served: those that the operator names, or the highest and those that labels mean."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mercato_plugin import FolderError, ModelFolder, folder_versions, read_folder
from mercato_server.contract.plugin import Numbered


@dataclass(frozen=True)
class ServedFolders:
    """The `contract.plugin.Folders` of a server; without a `root` no model has a folder.

    Of a model there are served the `versions` that are named for it, or else its highest and those of `labelled`;
    those of `kept` in any case. Every call looks at the disk anew.
    """

    root: Path | None = None
    versions: Mapping[str, Collection[int]] = field(default_factory=dict)
    labelled: Mapping[str, Collection[int]] = field(default_factory=dict)
    kept: Collection[Numbered] = ()

    def __call__(self, model: str) -> Mapping[int, ModelFolder | FolderError] | None:
        """The folders of a model that are served, highest first; None when it has none at all. Raises FolderError."""
        if self.root is None or not (there := folder_versions(self.root, model)):
            return None
        return {version: _read(self.root, model, version) for version in reversed(self._served(model, there))}

    def keeping(self, served: Collection[Numbered]) -> "ServedFolders":
        """The same, and what is served already."""
        return replace(self, kept=tuple(served))

    def to_json(self) -> dict[str, Any]:
        """Plain data for another process on this machine; `from_json` is its inverse."""
        root = None if self.root is None else str(self.root)
        return {
            "root": root,
            "versions": {model: list(numbers) for model, numbers in self.versions.items()},
            "labelled": {model: list(numbers) for model, numbers in self.labelled.items()},
            "kept": [list(numbered) for numbered in self.kept],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ServedFolders":
        """What `to_json` wrote."""
        root = None if data["root"] is None else Path(data["root"])
        kept = tuple((model, version) for model, version in data["kept"])
        return cls(root, data["versions"], data["labelled"], kept)

    def _served(self, model: str, there: Collection[int]) -> list[int]:
        wanted = self.versions.get(model) or {max(there), *self.labelled.get(model, ())}
        kept = {version for name, version in self.kept if name == model}
        return sorted({*wanted, *kept} & set(there))


def _read(root: Path, model: str, version: int) -> ModelFolder | FolderError:
    try:
        return read_folder(root, model, version)
    except FolderError as error:
        return error
