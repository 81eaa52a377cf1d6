"""A plugin of one model whose source says what it answers, y = x + shift, so that a new source is a new artifact."""

from dataclasses import dataclass
from pathlib import Path

from bench import plugin

DISTRIBUTION = "bench-shift"
MODEL = "bench.shift"

_TEMPLATE = '''
from pathlib import Path

from mercato_plugin import Example, Model, ModelSpec, Tensor, hookimpl

SHIFT = {shift}


class Shift(Model):
    """y = x + SHIFT."""

    spec = ModelSpec(
        name="{model}",
        version={version},
        inputs={{"x": Tensor("float32", ("batch", 1), doc="a number")}},
        outputs={{"y": Tensor("float32", ("batch", 1), doc="another number")}},
        doc="Adds a number.",
    )

    def build(self, ctx):
        from onnx import TensorProto, helper

        rows = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1]) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "shift", rows[:1], rows[1:])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path = Path(__file__).with_name("shift.onnx")
        path.write_bytes(made.SerializeToString())
        return path

    def examples(self, ctx):
        return [Example({{"x": [[1.0]]}}, outputs={{"y": [[1.0 + SHIFT]]}})]

    def postprocess(self, outputs, batch):
        return {{"y": outputs["y"] + outputs["y"].dtype.type(SHIFT)}}


@hookimpl
def mercato_models():
    return [Shift()]
'''


@dataclass(frozen=True)
class Source:
    """One source of the plugin: the version that it offers, and what it adds."""

    version: int
    shift: float

    def install(self, folder: Path) -> None:
        """Put it into a folder of PYTHONPATH, in place of any other source."""
        plugin.install(folder, DISTRIBUTION, _TEMPLATE.format(model=MODEL, version=self.version, shift=self.shift))
