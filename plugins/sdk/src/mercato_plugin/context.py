"""What the server hands to a model's methods: where its files are, and what it may leave behind."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class SpecContext(Protocol):
    """For `spec(ctx)`: the trained data a specification may depend on."""

    @property
    def files(self) -> Path | None:
        """The model folder's `files/`, or None when the model was installed without one."""

    @property
    def version(self) -> int | None:
        """The model folder's number, or None without one."""

    @property
    def settings(self) -> Any:
        """The model's settings dataclass, filled by the operator; None when it declares none."""


class BuildContext(SpecContext, Protocol):
    """For `build(ctx)` and `examples(ctx)`, in the export process."""

    def save(self, name: str, content: bytes) -> None:
        """Add a file for the worker; it is hashed into the artifact and found under `LoadContext.files`."""

    def save_estimator(self, estimator: Any, inputs: npt.NDArray[Any], name: str = "model") -> Path:
        """Convert a fitted scikit-learn estimator to ONNX at once and record its outputs for `inputs`.

        `inputs` is the estimator's own X, of shape (samples, features). Returns the path of the ONNX
        file, which `build` may return; its certificate is of kind `recorded`.
        """


class LoadContext(SpecContext, Protocol):
    """For `load(ctx)`, in the worker, before warm-up."""

    @property
    def files(self) -> Path:
        """The folder of the files that build saved."""

    @property
    def version(self) -> int | None:
        """The version that is served: the specification's, with a model folder or without one."""


Outputs = dict[str, npt.NDArray[np.generic]]
