"""From a fitted scikit-learn estimator to an ONNX file, with the estimator itself as reference."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, RemoveUnusedOpsetsPass
from skl2onnx import convert_sklearn
from skl2onnx.common import data_types
from sklearn.base import is_classifier

from mercato_plugin import GraphSpec, Tensor
from mercato_plugin.fields import AxisSpec
from mercato_server.contract.batch import Array
from mercato_server.contract.summary import summary
from mercato_server.errors import ExportFailed
from mercato_server.export import files, tools
from mercato_server.export.graphs import DEFAULT_OPSET, Arrays, ExportedGraph, axis_name
from mercato_server.export.names import rename_ports

# Their default converters emit operators that only the CPU has; without them come plain ones, same numbers.
_PLAIN_OPERATORS = {"LinearRegressor", "LinearClassifier", "Normalizer", "Scaler"}

_INPUT_TYPES = {
    "float64": data_types.DoubleTensorType, "float32": data_types.FloatTensorType,
    "int64": data_types.Int64TensorType,
}  # fmt: skip


def export(estimator: Any, spec: GraphSpec, path: Path, *, model: str, opset: int | None) -> ExportedGraph:
    """Convert a fitted estimator whose only input is X, of shape (batch, features).

    Declared outputs take the estimator's answers in order (classifier: predict, predict_proba;
    transformer: transform; else predict), each the next one whose type fits. Raises ExportFailed.
    """
    name, item = _only_input(spec, model)
    converted = _converted(estimator, name, item, model, opset or DEFAULT_OPSET)
    places = _chosen(converted, spec, model)
    converted.graph.outputs[:] = [converted.graph.outputs[place] for place in places]
    RemoveUnusedNodesPass()(converted)
    RemoveUnusedOpsetsPass()(converted)
    rename_ports(converted, [name], list(spec.outputs))
    _state_axes(converted, spec)
    files.save(converted, path)
    written = files.check(path, spec, model, exact=True)
    reference = _Reference(estimator, places, spec, model)
    return ExportedGraph(path, spec, written, tools.SKLEARN, reference=reference)


def _only_input(spec: GraphSpec, model: str) -> tuple[str, Tensor]:
    (name, item), *others = spec.inputs.items()
    if others or len(item.axes) != 2 or item.dtype not in _INPUT_TYPES or not isinstance(item.axes[1], int):
        raise ExportFailed(
            f"model {model!r}: an estimator's graph takes one input of axes (batch, <number of features>) and dtype "
            f"{', '.join(_INPUT_TYPES)}; the specification declares {list(spec.inputs)}"
        )
    return name, item


def _converted(estimator: Any, name: str, item: Tensor, model: str, opset: int) -> ir.Model:
    kind = _INPUT_TYPES[item.dtype]([None, item.axes[1]])
    options = {id(estimator): {"zipmap": False}} if is_classifier(estimator) else None
    try:
        proto = convert_sklearn(
            estimator, initial_types=[(name, kind)], target_opset=opset, options=options, black_op=_PLAIN_OPERATORS
        )
    except Exception as error:  # skl2onnx raises many types
        kind_name = type(estimator).__name__
        raise ExportFailed(f"model {model!r}: skl2onnx cannot convert {kind_name}: {summary(error)}") from error
    model_ir: ir.Model = ir.from_proto(proto)
    return model_ir


def _chosen(converted: ir.Model, spec: GraphSpec, model: str) -> list[int]:
    """For each declared output the place of the next converted one of its type."""
    types = [value.dtype for value in converted.graph.outputs]
    places: list[int] = []
    for name, item in spec.outputs.items():
        start = places[-1] + 1 if places else 0
        wanted = files.DATA_TYPES[item.dtype]
        place = next((place for place in range(start, len(types)) if types[place] == wanted), None)
        if place is None:
            got = [str(kind and kind.name.lower()) for kind in types]
            raise ExportFailed(f"model {model!r}: output {name!r} is declared {item.dtype}; the estimator gives {got}")
        places.append(place)
    return places


def _state_axes(converted: ir.Model, spec: GraphSpec) -> None:
    """The converter leaves axes unnamed, or outputs without sizes; the certificate's runs prove the declared ones."""
    for value in (*converted.graph.inputs, *converted.graph.outputs):
        item = spec.inputs.get(value.name or "") or spec.outputs[value.name or ""]
        known = value.shape or ir.Shape([None] * len(item.axes))
        if len(known) == len(item.axes):
            value.shape = ir.Shape([_stated(size, axis) for size, axis in zip(known, item.axes, strict=True)])


def _stated(size: object, axis: AxisSpec) -> int | str | None:
    return size if isinstance(size, int) else axis_name(axis) or (axis if isinstance(axis, int) else None)


class _Reference:
    """The estimator's own answers in float64, shaped as the graph's."""

    def __init__(self, estimator: Any, places: list[int], spec: GraphSpec, model: str) -> None:
        self._estimator = estimator
        self._places = places
        self._spec = spec
        self._model = model

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        (values,) = inputs.values()
        wide = values.astype(np.float64) if values.dtype.kind == "f" else values
        answers = self._answers(wide)
        chosen = zip(self._spec.outputs.items(), self._places, strict=True)
        return {name: _shaped(answers[place], item, len(wide)) for (name, item), place in chosen}

    def _answers(self, values: Array) -> Mapping[int, Array]:
        methods = ("predict", "predict_proba") if is_classifier(self._estimator) else ("predict",)
        if not hasattr(self._estimator, "predict"):
            methods = ("transform",)
        if max(self._places) >= len(methods):
            raise ExportFailed(
                f"model {self._model!r}: only {', '.join(methods)} of {type(self._estimator).__name__} can be served"
            )
        return {place: np.asarray(getattr(self._estimator, methods[place])(values)) for place in self._places}


def _shaped(answer: Array, item: Tensor, rows: int) -> Array:
    """scikit-learn gives (rows,) where the graph gives (rows, 1)."""
    sizes = [axis for axis in item.axes[1:] if isinstance(axis, int)]
    fits = answer.size == rows * int(np.prod(sizes)) and len(sizes) == len(item.axes) - 1
    return answer.reshape(rows, *sizes) if fits else answer
