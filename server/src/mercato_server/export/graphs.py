"""What the exporters hand to the certificate: one ONNX file, and what to hold it against."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mercato_plugin import BATCH, GraphSpec, Tensor
from mercato_plugin.fields import AxisSpec
from mercato_server.contract.batch import Array

Arrays = Mapping[str, Array]
Reference = Callable[[Arrays], dict[str, Array]]
"""The source itself, in float64 where it computes: graph inputs to graph outputs, both by name."""

DEFAULT_OPSET = 20
IR_VERSION = 10


@dataclass(frozen=True)
class Recorded:
    """Outputs of the source for some inputs, kept from when it was at hand."""

    inputs: Arrays
    outputs: Arrays


@dataclass(frozen=True)
class ExportedGraph:
    """One file of the artifact. At most one of `reference` and `recorded` is given.

    `tools` names the distributions that made the file.
    """

    path: Path
    spec: GraphSpec
    opset: int
    tools: tuple[str, ...]
    reference: Reference | None = None
    recorded: Recorded | None = None


def axis_name(axis: AxisSpec) -> str | None:
    """The name of an axis whose size varies; None for a fixed one."""
    if isinstance(axis, int):
        return None
    return axis if isinstance(axis, str) else axis.name


def shown(tensor: Tensor) -> str:
    """The declared axes as an author reads them: `(batch, 3)`."""
    return f"({', '.join(str(axis_name(axis) or axis) for axis in tensor.axes)})"


def named_axes(graph: GraphSpec) -> dict[str, int | None]:
    """Every named axis of the inputs with its maximum; None for `batch`, which the batch policy bounds."""
    axes = [axis for tensor in graph.inputs.values() for axis in tensor.axes if not isinstance(axis, int)]
    return {BATCH: None} | {axis.name: axis.max for axis in axes if not isinstance(axis, str)}
