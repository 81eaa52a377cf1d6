"""Tiny ONNX graphs, and artifacts and workers around them."""

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mercato_plugin import Axis, Batch, BatchPolicy, GraphSpec, Model, ModelSpec, Tensor
from mercato_server.contract.artifact import Artifact
from mercato_server.contract.batch import JoinedBatch
from mercato_server.contract.certificate import Certificate
from mercato_server.contract.plugin import OfferedModel, PluginInfo
from mercato_server.runtime.worker import Worker

Value = tuple[int, list[str | int]]

X = Tensor("float32", ("batch", 2))
DOUBLE = ModelSpec(name="shop.double", inputs={"x": X}, outputs={"y": X}, batch=BatchPolicy(max_rows=8))
LENGTH = Axis("length", max=16)
IDS = Tensor("int64", ("batch", LENGTH), ragged=True, pad=7)
WORDS = GraphSpec(
    inputs={"ids": IDS, "lengths": Tensor("int64", ("batch",))},
    outputs={"copy": Tensor("int64", ("batch", LENGTH)), "size": Tensor("int64", ("batch",))},
    lengths="lengths",
)


def graph(nodes: list[onnx.NodeProto], inputs: Mapping[str, Value], outputs: Mapping[str, Value]) -> onnx.ModelProto:
    def declared(values: Mapping[str, Value]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in values.items()]

    made = helper.make_graph(nodes, "made", declared(inputs), declared(outputs))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


def double() -> onnx.ModelProto:
    """y = x + x."""
    rows: Value = (TensorProto.FLOAT, ["batch", 2])
    return graph([helper.make_node("Add", ["x", "x"], ["y"])], {"x": rows}, {"y": rows})


def words() -> onnx.ModelProto:
    """copy = ids, with the padded axis; size = lengths."""
    ids: Value = (TensorProto.INT64, ["batch", "length"])
    lengths: Value = (TensorProto.INT64, ["batch"])
    nodes = [helper.make_node("Identity", ["ids"], ["copy"]), helper.make_node("Identity", ["lengths"], ["size"])]
    return graph(nodes, {"ids": ids, "lengths": lengths}, {"copy": ids, "size": lengths})


def artifact(
    folder: Path, spec: ModelSpec, graphs: Mapping[str, onnx.ModelProto], examples: list[dict[str, Any]] | None = None
) -> Artifact:
    (folder / "graphs").mkdir()
    (folder / "files").mkdir()
    for name, model in graphs.items():
        onnx.save(model, str(folder / "graphs" / f"{name}.onnx"))
    frozen = [{"inputs": inputs, "parameters": {}} for inputs in examples or []]
    (folder / "examples.json").write_text(json.dumps(frozen))
    certificate = Certificate("self", True, (), (), (), 17, "cpu")
    return Artifact("d" * 64, folder, spec, certificate, "mercato-made", "1.0", {})


def worker(
    folder: Path,
    model: type[Model] = Model,
    spec: ModelSpec = DOUBLE,
    examples: list[dict[str, Any]] | None = None,
    settings: Any = None,
) -> Worker:
    """A worker of `shop.double`, not loaded yet."""
    made = model()
    made.spec = spec
    offered = OfferedModel(PluginInfo("mercato-made", "1.0", "made", "made"), made, spec, settings)
    return Worker(offered, artifact(folder, spec, {"model": double()}, examples), provider="cpu", threads=1)


def loaded(folder: Path, model: type[Model] = Model, spec: ModelSpec = DOUBLE) -> Worker:
    made = worker(folder, model, spec)
    made.load()
    return made


def joined(*rows: float) -> JoinedBatch:
    """One row per number, which stands in both columns."""
    return JoinedBatch({"x": np.repeat(np.array(rows, np.float32)[:, None], 2, 1)}, len(rows))


def answering(answer: Callable[[Batch, dict[str, Any]], Any]) -> type[Model]:
    """A model whose postprocess gives `answer(batch, outputs)`."""

    class Answering(Model):
        def postprocess(self, outputs: Any, batch: Batch) -> Any:
            return answer(batch, outputs)

    return Answering


def table(rows: int) -> onnx.ModelProto:
    """y = the rows of a table of `rows` x 1024 float32 that x names: rows x 4 KiB of weights."""
    weights = numpy_helper.from_array(np.ones((rows, 1024), np.float32), "weights")
    ids: Value = (TensorProto.INT64, ["batch"])
    made = graph([helper.make_node("Gather", ["weights", "x"], ["y"])], {"x": ids}, {"y": (1, ["batch", 1024])})
    made.graph.initializer.append(weights)
    return made


def wide(steps: int = 6) -> onnx.ModelProto:
    """Some steps over batch x 4096, each of which needs a block of its own beside its input."""
    rows: Value = (TensorProto.FLOAT, ["batch", 4096])
    names = ["x", *(f"step{index}" for index in range(steps - 1)), "y"]
    nodes = [helper.make_node("Softmax", [a], [b]) for a, b in itertools.pairwise(names)]
    return graph(nodes, {"x": rows}, {"y": rows})
