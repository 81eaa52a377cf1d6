"""An artifact as the other rooms see it: verified files, the frozen spec and the certificate."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mercato_plugin import ModelSpec
from mercato_server.contract.certificate import Certificate

Stamp = tuple[int, int, int]
"""Size in bytes, time of the last write and of the last change of a file or folder, both in nanoseconds."""


@dataclass(frozen=True)
class Artifact:
    """One object of the store, its hashes verified.

    `folder` holds `graphs/<name>.onnx` (with external data beside it), `files/` with what build saved,
    `spec.json`, `certificate.json` and `manifest.json`. `digest` is the SHA-256 of the manifest, `stamps`
    are those of its files and folders, by name, from when they were verified.
    """

    digest: str
    folder: Path
    spec: ModelSpec
    certificate: Certificate
    plugin: str
    plugin_version: str
    tools: Mapping[str, str]
    stamps: Mapping[str, Stamp | None] = field(default_factory=dict, compare=False, repr=False)

    def graph(self, name: str) -> Path:
        """The ONNX file of one graph."""
        return self.folder / "graphs" / f"{name}.onnx"

    @property
    def files(self) -> Path:
        """The folder of the files that build saved; it may be empty."""
        return self.folder / "files"
