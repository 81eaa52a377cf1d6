"""Versions of the tools that made an artifact, compared with those installed; imports none of them."""

import logging
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from mercato_server.contract.artifact import Artifact
from mercato_server.errors import ArtifactDamaged
from mercato_server.store import Store

log = logging.getLogger("mercato.export")

ONNX = ("onnx", "onnx-ir")
TORCH = (*ONNX, "onnxscript", "torch")
SKLEARN = (*ONNX, "scikit-learn", "skl2onnx")
RUNTIME = ("onnxruntime", "onnxruntime-gpu")


def tools_installed() -> dict[str, str] | None:
    """Versions of the build tools by distribution name; None where the tools are not all installed."""
    installed = versions((*TORCH, *SKLEARN))
    return installed if {*TORCH, *SKLEARN} <= installed.keys() else None


def versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of those of the distributions that are installed."""
    found = {name: _version(name) for name in sorted(set(names))}
    return {name: number for name, number in found.items() if number is not None}


def is_current(artifact: Artifact) -> bool:
    """Whether the artifact need not be made again: the tools installed are those that made it, or some are absent.

    onnxruntime stands in the manifest for the record only.
    """
    made_with = {name: number for name, number in artifact.tools.items() if name not in RUNTIME}
    installed = versions(made_with)
    return installed.keys() != made_with.keys() or installed == made_with


def usable(store: Store, key: str) -> Artifact | None:
    """The artifact under `key`, if there is one, it is intact, and it need not be made again."""
    try:
        artifact = store.find(key)
    except ArtifactDamaged as error:
        log.warning("%s", error)
        return None
    return artifact if artifact is not None and is_current(artifact) else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
