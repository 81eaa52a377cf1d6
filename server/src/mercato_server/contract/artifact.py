"""An artifact as the other rooms see it: verified files, the frozen spec and the certificate."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mercato_plugin import ModelSpec
from mercato_server.contract.certificate import Certificate


@dataclass(frozen=True)
class Artifact:
    """One object of the store, its hashes verified.

    `folder` holds `graphs/<name>.onnx` (with external data beside it), `files/` with what build saved,
    `spec.json`, `certificate.json` and `manifest.json`. `digest` is the SHA-256 of the manifest.
    """

    digest: str
    folder: Path
    spec: ModelSpec
    certificate: Certificate
    plugin: str
    plugin_version: str
    tools: Mapping[str, str]

    def graph(self, name: str) -> Path:
        """The ONNX file of one graph."""
        return self.folder / "graphs" / f"{name}.onnx"

    @property
    def files(self) -> Path:
        """The folder of the files that build saved; it may be empty."""
        return self.folder / "files"
