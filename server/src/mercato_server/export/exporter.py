"""From what `build` returned to the graphs of an artifact: chooses the way for each kind of source."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mercato_plugin import GraphSpec, ModelSpec
from mercato_server.contract.fields import numpy_dtype
from mercato_server.errors import ExportFailed
from mercato_server.export.graphs import ExportedGraph


def export_graphs(
    built: Any, spec: ModelSpec, folder: Path, files: Path | None, on_graph: Callable[[int, int], None]
) -> dict[str, ExportedGraph]:
    """Write `folder/<name>.onnx` for every graph of the specification.

    A relative path that `build` returned is looked up in `files`, the model folder. `on_graph` hears
    how many graphs of how many are done. Raises ExportFailed.
    """
    sources = _by_name(built, spec)
    for graph in spec.graphs.values():
        _check_bounds(graph, spec.name)
    exported: dict[str, ExportedGraph] = {}
    for name, source in sources.items():
        exported[name] = _export(source, spec, spec.graphs[name], folder / f"{name}.onnx", files)
        on_graph(len(exported), len(sources))
    return exported


def _by_name(built: Any, spec: ModelSpec) -> dict[str, Any]:
    names = list(spec.graphs)
    sources = dict(built) if isinstance(built, Mapping) else {names[0]: built}
    if set(sources) != set(names):
        raise ExportFailed(f"model {spec.name!r}: build gave graphs {sorted(sources)}, the specification has {names}")
    return {name: sources[name] for name in names}


def _check_bounds(graph: GraphSpec, model: str) -> None:
    """Whole numbers are often indices: nobody but the author knows which ones exist."""
    for name, item in graph.inputs.items():
        dtype = numpy_dtype(item.dtype)
        if dtype.kind in "iu" and dtype.itemsize > 1 and item.high is None and name != graph.lengths:
            raise ExportFailed(
                f"model {model!r}: graph input {name!r} is {item.dtype} without high; state low and high, "
                "so that the certificate tries the numbers that will come"
            )


def _export(source: Any, spec: ModelSpec, graph: GraphSpec, path: Path, files: Path | None) -> ExportedGraph:
    # Each way imports its own tools, which take seconds.
    if isinstance(source, str | os.PathLike):
        from mercato_server.export import ready_graph

        return ready_graph.take((files or Path()) / source, graph, path, model=spec.name)
    if _is_module(source):
        from mercato_server.export import torch_graph

        return torch_graph.export(source, graph, path, model=spec.name, opset=spec.opset)
    if _is_estimator(source):
        from mercato_server.export import estimator_graph

        return estimator_graph.export(source, graph, path, model=spec.name, opset=spec.opset)
    raise ExportFailed(
        f"model {spec.name!r}: build returned {type(source).__name__}; expected a torch.nn.Module, a mapping of "
        "graph names to modules, a fitted scikit-learn estimator, or the path of an ONNX file"
    )


def _is_module(source: Any) -> bool:
    """Only somebody who imported torch can have a module."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)


def _is_estimator(source: Any) -> bool:
    base = sys.modules.get("sklearn.base")
    return base is not None and isinstance(source, base.BaseEstimator)
