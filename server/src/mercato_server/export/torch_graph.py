"""From a torch module to an ONNX file, and the module itself in float64 as its reference."""

import copy
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from mercato_plugin import GraphSpec, Tensor
from mercato_server.contract.batch import Array
from mercato_server.contract.summary import summary
from mercato_server.errors import ExportFailed
from mercato_server.export import cases, files, tools
from mercato_server.export.graphs import DEFAULT_OPSET, IR_VERSION, Arrays, ExportedGraph, axis_name
from mercato_server.export.names import rename_ports
from mercato_server.runtime.threads import cpu_limit


class _Ordered(torch.nn.Module):
    """The author's module behind positional inputs, its outputs a tuple in the declared order."""

    def __init__(self, source: torch.nn.Module, outputs: Sequence[str]) -> None:
        super().__init__()
        self.source = source
        self.output_names = tuple(outputs)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        answer: Any = self.source(*inputs)
        if isinstance(answer, Mapping):
            return tuple(answer[name] for name in self.output_names)
        return (answer,) if isinstance(answer, torch.Tensor) else tuple(answer)


def export(module: torch.nn.Module, spec: GraphSpec, path: Path, *, model: str, opset: int | None) -> ExportedGraph:
    """Export in evaluation mode; `forward` takes the graph's inputs in the declared order.

    It returns a tensor, a tuple in the declared order of outputs, or a mapping by output name.
    The opset is 20 when none is asked for. Raises ExportFailed.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.set_num_threads(cpu_limit())
    ordered = _Ordered(module, list(spec.outputs)).eval()
    opset = opset or DEFAULT_OPSET
    exported = _traced(ordered, spec, model, opset)
    if len(exported.graph.outputs) != len(spec.outputs):
        raise ExportFailed(
            f"model {model!r}: the module returns {len(exported.graph.outputs)} outputs, "
            f"the specification declares {list(spec.outputs)}"
        )
    rename_ports(exported, list(spec.inputs), list(spec.outputs))
    files.save(exported, path)
    _check_versions(exported, model, opset)
    written = files.check(path, spec, model, exact=True)
    return ExportedGraph(path, spec, written, tools.TORCH, reference=_Reference(ordered, spec, model))


def _traced(ordered: _Ordered, spec: GraphSpec, model: str, opset: int) -> ir.Model:
    arrays = cases.example(spec).arrays
    inputs = tuple(_tensor(arrays[name], item) for name, item in spec.inputs.items())
    shapes = tuple(_varying(item) for item in spec.inputs.values())
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # torch warns of its own deprecated calls and of axes that share a name; the checks below decide.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                ordered, inputs, dynamo=True, dynamic_shapes=(shapes,), opset_version=opset, verbose=False
            )
    except Exception as error:  # whatever the author's forward raises comes through as well
        raise ExportFailed(f"model {model!r}: torch cannot export the module: {summary(error)}") from error
    assert program is not None
    return program.model


def _check_versions(exported: ir.Model, model: str, opset: int) -> None:
    got = (exported.opset_imports.get(""), exported.ir_version)
    if got != (opset, IR_VERSION):
        raise ExportFailed(f"model {model!r}: opset and IR version are {got}, {(opset, IR_VERSION)} were asked for")


def _varying(item: Tensor) -> dict[int, str]:
    """Axes as strings: the exporter then refuses a module that pins one of them, and never does so silently."""
    names = enumerate(map(axis_name, item.axes))
    return {place: name for place, name in names if name is not None}


def _tensor(array: Array, item: Tensor) -> torch.Tensor:
    dtype = getattr(torch, item.dtype)
    # torch reads no bfloat16 arrays; float64 holds every value of the floating types.
    readable = array.astype(np.float64) if dtype.is_floating_point else np.ascontiguousarray(array)
    return torch.tensor(readable).to(dtype)


class _Reference:
    """The module in float64 on the CPU; integers stay integers."""

    def __init__(self, ordered: _Ordered, spec: GraphSpec, model: str) -> None:
        self._module = copy.deepcopy(ordered).double()
        self._spec = spec
        self._model = model

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        tensors = [_tensor(inputs[name], item) for name, item in self._spec.inputs.items()]
        wide = [item.double() if item.is_floating_point() else item for item in tensors]
        try:
            with torch.inference_mode():
                answer = self._module(*wide)
        except Exception as error:  # the author's code
            shapes = {name: array.shape for name, array in inputs.items()}
            raise ExportFailed(
                f"model {self._model!r}: the module in float64 raises at {shapes}: {summary(error)}; "
                "state low and high of indices, and let computed tensors take the dtype of the module's weights"
            ) from error
        return {name: item.numpy() for name, item in zip(self._spec.outputs, answer, strict=True)}
