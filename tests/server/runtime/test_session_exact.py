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


def normalised(path: Path, epsilon: np.ndarray) -> Path:
    """y = (x - mean x) / sqrt(mean (x - mean x)^2 + epsilon), the way exporters write a LayerNorm."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "last"], ["mean"]),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Pow", ["centred", "two"], ["squared"]),
        helper.make_node("ReduceMean", ["squared", "last"], ["variance"]),
        helper.make_node("Add", ["variance", "epsilon"], ["raised"]),
        helper.make_node("Sqrt", ["raised"], ["deviation"]),
        helper.make_node("Div", ["centred", "deviation"], ["normal"]),
        helper.make_node("Mul", ["normal", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["batch", 8]) for name in ("x", "y")]
    constants = [
        numpy_helper.from_array(value, name)
        for name, value in {
            "last": np.array([-1]), "two": np.array(2.0), "epsilon": epsilon, "gain": np.ones(8), "shift": np.zeros(8),
        }.items()
    ]  # fmt: skip
    graph = helper.make_graph(nodes, "normalised", ports[:1], ports[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_the_epsilon_of_a_layer_norm_keeps_its_digits(tmp_path: Path) -> None:
    epsilon, x = np.array(1.2345678912e-3), np.linspace(-0.02, 0.03, 32).reshape(4, 8)
    session = open_session(normalised(tmp_path / "normalised.onnx", epsilon))
    centred = x - x.mean(axis=1, keepdims=True)
    expected = centred / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + epsilon)
    np.testing.assert_allclose(session.run({"x": x})["y"], expected, rtol=1e-13)


def test_the_scale_of_a_product_keeps_its_digits(tmp_path: Path) -> None:
    weight, x = np.array([[-0.8310429494016303]]), np.linspace(-3, 3, 7)[:, None]
    session = open_session(scaled_product(tmp_path / "scaled.onnx", weight))
    np.testing.assert_allclose(session.run({"x": x})["y"], (x / SCALE) @ weight, rtol=1e-15)
