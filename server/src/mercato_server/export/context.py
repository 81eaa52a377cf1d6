"""What `build` and `examples` get: the model folder, the settings, and a place to leave files for the worker."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy.typing as npt

from mercato_plugin import ModelSpec
from mercato_server.errors import ExportFailed


@dataclass(frozen=True)
class ExportContext:
    """A `mercato_plugin.BuildContext`. `saved` becomes the artifact's `files/`; `work` is gone after the export."""

    spec: ModelSpec
    files: Path | None
    version: int | None
    settings: Any
    saved: Path
    work: Path

    def save(self, name: str, content: bytes) -> None:
        """Add a file for the worker. Raises ExportFailed for a name that leaves the folder, or is taken."""
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or name.startswith("/") or "\\" in name:
            raise ExportFailed(f"model {self.spec.name!r}: save({name!r}): the name must stay inside the files folder")
        target = self.saved.joinpath(*parts)
        if target.exists():
            raise ExportFailed(f"model {self.spec.name!r}: save({name!r}): a file of that name was saved before")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def save_estimator(self, estimator: Any, inputs: npt.NDArray[Any], name: str = "model") -> Path:
        """Convert a fitted estimator at once and record its outputs for `inputs`; gives the ONNX file's path."""
        from mercato_server.export import estimator_graph, recorded

        if name not in self.spec.graphs:
            raise ExportFailed(
                f"model {self.spec.name!r}: save_estimator(name={name!r}): the specification has graphs "
                f"{sorted(self.spec.graphs)}"
            )
        exported = estimator_graph.export(
            estimator, self.spec.graphs[name], self.work / f"{name}.onnx", model=self.spec.name, opset=self.spec.opset
        )
        recorded.record(exported, inputs)
        return exported.path
