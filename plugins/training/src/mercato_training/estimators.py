"""Fitted scikit-learn estimators as ONNX files."""

from typing import Any

import numpy as np
import onnx
from skl2onnx import convert_sklearn, update_registered_converter
from skl2onnx.common._apply_operation import apply_cast
from skl2onnx.common.data_types import DoubleTensorType
from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes
from skl2onnx.operator_converters.random_forest import convert_sklearn_random_forest_regressor_converter
from sklearn.ensemble import HistGradientBoostingRegressor

from mercato_training.errors import TrainingError
from mercato_training.table import Array

OPSET = {"": 20, "ai.onnx.ml": 3}

# Their default converters emit operators that only the CPU has; without them come plain ones, same numbers.
_PLAIN_OPERATORS = {"LinearRegressor", "LinearClassifier", "Normalizer", "Scaler"}


def to_onnx(estimator: Any, features: Array, input: str, output: str, model: str) -> bytes:
    """The estimator's `predict` as a file: float64 (rows, columns) named `input` to (rows, 1) named `output`.

    Raises TrainingError.
    """
    if features.ndim != 2 or features.dtype != np.float64:
        got = f"{features.dtype} of {features.ndim} axes"
        raise TrainingError(f"{model}: save_estimator takes float64 features of shape (rows, columns), got {got}")
    kind = DoubleTensorType([None, features.shape[1]])
    try:
        proto = convert_sklearn(estimator, initial_types=[(input, kind)], target_opset=OPSET, black_op=_PLAIN_OPERATORS)
    except Exception as error:  # skl2onnx raises many types
        why = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise TrainingError(f"{model}: {type(estimator).__name__} cannot be converted to ONNX: {why}") from error
    content: bytes = _renamed(proto, output).SerializeToString()
    return content


_WIDE = ("nodes_values", "target_weights", "base_values")
_FLAGS = "nodes_missing_value_tracks_true"


class _Trees:
    """The converter's container, corrected for its one node of trees.

    Thresholds and weights stay float64, since a threshold may be a value of the data, which must fall on its own side;
    flags become whole numbers, since onnx 1.23 refuses the booleans that the converter gives; and the sums, which the
    operator gives in float32 whatever it gets, are cast to the float64 that the converter promises.
    """

    def __init__(self, container: Any, scope: Any) -> None:
        self._container = container
        self._scope = scope

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, kind: str, inputs: Any, output: str, **attributes: Any) -> None:
        """The node, and a cast behind it."""
        sums = self._scope.get_unique_variable_name("sums")
        wide = {f"{name}_as_tensor": _doubles(attributes.pop(name)) for name in _WIDE}
        flags = [int(flag) for flag in attributes.pop(_FLAGS)]
        attributes |= {"op_version": OPSET["ai.onnx.ml"], _FLAGS: flags, **wide}
        self._container.add_node(kind, inputs, sums, **attributes)
        apply_cast(self._scope, sums, output, self._container, to=onnx.TensorProto.DOUBLE)


def _doubles(values: Any) -> Any:
    return onnx.numpy_helper.from_array(np.asarray(values, np.float64))


def _convert_histogram_trees(scope: Any, operator: Any, container: Any) -> None:
    convert_sklearn_random_forest_regressor_converter(scope, operator, _Trees(container, scope))


update_registered_converter(
    HistGradientBoostingRegressor,
    "MercatoHistGradientBoostingRegressor",
    calculate_linear_regressor_output_shapes,
    _convert_histogram_trees,
)


def _renamed(proto: Any, output: str) -> Any:
    """With the first output, which is what `predict` gives, under its name, and without the converter's remarks."""
    old = proto.graph.output[0].name
    for node in proto.graph.node:
        node.output[:] = [output if name == old else name for name in node.output]
        node.input[:] = [output if name == old else name for name in node.input]
    proto.graph.output[0].name = output
    del proto.graph.output[1:]
    proto.doc_string = proto.graph.doc_string = ""
    del proto.metadata_props[:]
    onnx.checker.check_model(proto)
    return proto
