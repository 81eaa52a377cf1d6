"""A plugin for the cases that the reference models have no room for: answers of megabytes, a message of all kinds."""

DISTRIBUTION = "mercato-wide"
WIDE = "test.wide"
# What the specification of the gRPC interoperability tests sends, and a word of Chinese.
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n红色跑鞋 100%"

SOURCE = f'''
from pathlib import Path
from tempfile import mkdtemp

from mercato_plugin import Axis, Example, InvalidInput, Model, ModelSpec, Tensor, hookimpl


class Wide(Model):
    """y = x; a request that begins with a negative number is refused in so many words."""

    spec = ModelSpec(
        name="{WIDE}",
        inputs={{"x": Tensor("float32", ("batch", Axis("n", max=32768)), doc="a negative number is refused")}},
        outputs={{"y": Tensor("float32", ("batch", Axis("n", max=32768)), doc="x again")}},
        doc="Answers with its input.",
    )

    def build(self, ctx):
        from onnx import TensorProto, helper

        rows = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", "n"]) for n in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "wide", rows[:1], rows[1:])
        path = Path(mkdtemp()) / "wide.onnx"
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path.write_bytes(made.SerializeToString())
        return path

    def examples(self, ctx):
        return [Example({{"x": [[1.0]]}}, outputs={{"y": [[1.0]]}})]

    def preprocess(self, batch):
        if batch.inputs["x"][0, 0] < 0:
            raise InvalidInput("x", {SPECIAL!r})
        return batch.inputs


@hookimpl
def mercato_models():
    return [Wide()]
'''
