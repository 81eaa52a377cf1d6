"""Graphs in float64 compute in float64, whatever onnxruntime's optimizers would like to fuse."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mercato_server.runtime.session import open_session

SCALE = np.float64(1.9682452658306289)


def scaled_product(path: Path, weight: np.ndarray) -> Path:
    """y = (x / scale) @ weight."""
    nodes = [helper.make_node("Div", ["x", "scale"], ["scaled"]), helper.make_node("MatMul", ["scaled", "w"], ["y"])]
    ports = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["batch", 1]) for name in ("x", "y")]
    constants = [numpy_helper.from_array(np.array([SCALE]), "scale"), numpy_helper.from_array(weight, "w")]
    graph = helper.make_graph(nodes, "scaled", ports[:1], ports[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_the_scale_of_a_product_keeps_its_digits(tmp_path: Path) -> None:
    weight, x = np.array([[-0.8310429494016303]]), np.linspace(-3, 3, 7)[:, None]
    session = open_session(scaled_product(tmp_path / "scaled.onnx", weight))
    np.testing.assert_allclose(session.run({"x": x})["y"], (x / SCALE) @ weight, rtol=1e-15)
