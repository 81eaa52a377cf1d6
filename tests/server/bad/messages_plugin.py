"""A plugin with what the reference models lack: every element type, parameters, ragged and shared inputs, a table.

Its text is installed beside a server; the tests import it for its names and specifications.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mercato_plugin import (
    Axis,
    Batch,
    Bool,
    BuildContext,
    Choice,
    Example,
    Float,
    GraphSpec,
    Int,
    Label,
    LoadContext,
    Model,
    ModelSpec,
    Str,
    Tensor,
    Text,
    hookimpl,
)

KINDS = "odd.kinds"
TABLE = "odd.table"
BROKEN = "odd.broken"
DISTRIBUTION = "mercato-odd"

PAIR = Tensor("float32", ("batch", 2), finite=False)
IDS = Tensor("int64", ("batch", 2), high=4)
NEAR = Tensor("int64", ("batch", 2), low=0, high=4)
FOUND = {"y": Tensor("float32", ("batch", 2))}
TYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "bfloat16", "float64",
)  # fmt: skip


def written(name: str, inputs: Sequence[str], nodes: Sequence[Any], tables: Mapping[str, list[float]]) -> Path:
    """The ONNX file of one graph."""
    from onnx import TensorProto, helper

    kinds = {"x": TensorProto.FLOAT, "y": TensorProto.FLOAT, "ids": TensorProto.INT64, "near": TensorProto.INT64}
    rows = {n: helper.make_tensor_value_info(n, kinds[n], ["batch", 2]) for n in (*inputs, "y")}
    weights = [helper.make_tensor(n, TensorProto.FLOAT, [len(values)], values) for n, values in tables.items()]
    nodes = [helper.make_node(*node) for node in nodes]
    made = helper.make_graph(nodes, "odd", [rows[n] for n in inputs], [rows["y"]], weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = Path(os.environ["ODD"]) / name
    path.write_bytes(model.SerializeToString())
    return path


class Same(Model):
    """y = x."""

    def build(self, ctx: BuildContext) -> Path:
        """One Identity."""
        return written("same.onnx", ["x"], [("Identity", ["x"], ["y"])], {})

    def examples(self, ctx: BuildContext) -> Iterable[Example]:
        """One row."""
        return [Example({"x": [[1.0, 2.0]]})]


class Kinds(Same):
    """y = x, whatever else comes with it; `write` makes it write into its input."""

    spec = ModelSpec(
        name=KINDS,
        inputs={
            "x": PAIR,
            "finite": Tensor("float32", ("batch", 2), optional=True),
            **{name: Tensor(name, optional=True) for name in TYPES},
            "share": Tensor("float32", (3,), low=0, high=1, shared=True, optional=True),
            "seq": Tensor("float32", ("batch", Axis("length", max=16)), ragged=True, optional=True),
            "past": Tensor("int64", (Axis("past", max=4),), shared=True, ragged=True, pad=-1, optional=True),
            "wide": Tensor("int64", ("batch", Axis("width", max=8), Axis("height", max=8)), optional=True),
            "color": Label(("red", "green"), optional=True),
            "note": Text(max_bytes=16, optional=True),
            "cut": Text(max_bytes=16, overflow="truncate", optional=True),
        },
        outputs={"y": PAIR, "taken": Tensor("int64")},
        parameters={
            "k": Int(10, low=1, high=100),
            "scale": Float(1.0, low=0.0),
            "write": Bool(),
            "order": Choice("price", ("price", "name")),
            "word": Str(max_bytes=8),
            "seed": Int(7, per_row=True),
        },
        graph=GraphSpec(inputs={"x": PAIR}, outputs={"y": PAIR}),
    )

    def preprocess(self, batch: Batch) -> Mapping[str, Any]:
        """The graph knows `x` alone."""
        if batch.parameters["write"]:
            batch.inputs["x"][0, 0] = 1
        return {"x": batch.inputs["x"]}

    def postprocess(self, outputs: Mapping[str, Any], batch: Batch) -> Mapping[str, Any]:
        """The parameter `k` for every row."""
        return {**outputs, "taken": batch.parameters["seed"] * 0 + batch.parameters["k"]}


class Table(Model):
    """y = table[ids] + table[key // 2], of a table of five numbers; only the second index has a declared low."""

    spec = ModelSpec(
        name=TABLE,
        inputs={"ids": IDS, "key": Tensor("int64", ("batch", 2), optional=True)},
        outputs=FOUND,
        graph=GraphSpec(inputs={"ids": IDS, "near": NEAR}, outputs=FOUND),
    )

    def build(self, ctx: BuildContext) -> Path:
        """Two look-ups."""
        nodes = [("Gather", ["t", "ids"], ["a"]), ("Gather", ["t", "near"], ["b"]), ("Add", ["a", "b"], ["y"])]
        return written("table.onnx", ["ids", "near"], nodes, {"t": [0.0, 1.0, 2.0, 3.0, 4.0]})

    def examples(self, ctx: BuildContext) -> Iterable[Example]:
        """One row."""
        return [Example({"ids": [[0, 1]]})]

    def preprocess(self, batch: Batch) -> Mapping[str, Any]:
        """`near` is made here, `ids` is the caller's own."""
        return {"ids": batch.inputs["ids"], "near": batch.inputs["key"] // 2}


class Broken(Same):
    """Its load raises."""

    spec = ModelSpec(name=BROKEN, inputs={"x": PAIR}, outputs={"y": PAIR})

    def load(self, ctx: LoadContext) -> None:
        """Never loads."""
        raise ValueError("no index")


@hookimpl
def mercato_models() -> Iterable[Model]:
    """All three."""
    return [Kinds(), Table(), Broken()]
