"""A plugin that stops where a test wants it to, and goes on when the test says so; and one that cannot be imported."""

import os
import select
import shutil
from pathlib import Path

from tests.server.running import PATIENCE

GATE = '''
import os
from pathlib import Path

from mercato_plugin import Example, Model, ModelSpec, Tensor, hookimpl

FOLDER = Path(os.environ["GATE"])
print("plugins may print")


def stop(place):
    told = os.open(FOLDER / f"{place}.reached", os.O_WRONLY)
    os.write(told, b"%d\\n" % os.getpid())
    os.close(told)
    go = os.open(FOLDER / f"{place}.go", os.O_RDONLY)
    os.read(go, 1)
    os.close(go)


class Gate(Model):
    """y = x; a batch that begins with a negative number waits."""

    spec = ModelSpec(
        name="test.gate",
        inputs={"x": Tensor("float32", ("batch", 1), doc="minus one waits")},
        outputs={"y": Tensor("float32", ("batch", 1), doc="x again")},
        doc="Answers with its input.",
    )

    def build(self, ctx):
        from onnx import TensorProto, helper

        if "GATE_BUILD" in os.environ:
            stop("build")
        rows = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 1]) for n in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "gate", rows[:1], rows[1:])
        path = FOLDER / "gate.onnx"
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path.write_bytes(made.SerializeToString())
        return path

    def examples(self, ctx):
        return [Example({"x": [[1.0]]}, outputs={"y": [[1.0]]})]

    def load(self, ctx):
        if "GATE_LOAD" in os.environ:
            stop("load")

    def preprocess(self, batch):
        if batch.inputs["x"][0, 0] < 0:
            stop("run")
        return batch.inputs


@hookimpl
def mercato_models():
    return [Gate()]
'''


PLACES = ("build", "load", "run")


class Gate:
    """The test's side of the gate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._reached = {place: _pipe(folder / f"{place}.reached") for place in PLACES}
        self._go = {place: _pipe(folder / f"{place}.go") for place in PLACES}

    def reached(self, place: str) -> int:
        """Wait until the plugin stands there; gives its process."""
        ready, _, _ = select.select([self._reached[place]], [], [], PATIENCE)
        assert ready, f"the plugin never reached {place}"
        return int(os.read(self._reached[place], 64))

    def open(self, place: str) -> None:
        """Let one go on."""
        os.write(self._go[place], b"g")

    def remove(self) -> None:
        """Close it and take its folder away, so that another one may stand there."""
        self.close()
        shutil.rmtree(self.folder)

    def close(self) -> None:
        for descriptor in (*self._reached.values(), *self._go.values()):
            os.close(descriptor)


def install(folder: Path, distribution: str, source: str) -> str:
    """A distribution of one module with a plugin's entry point; gives the folder for PYTHONPATH."""
    module = distribution.replace("-", "_")
    facts = folder / f"{module}-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[mercato.plugins]\n{module} = {module}\n")
    (folder / f"{module}.py").write_text(source)
    return str(folder)


def _pipe(path: Path) -> int:
    os.mkfifo(path)
    return os.open(path, os.O_RDWR)
