"""A plugin whose models are built from model folders, a place where they are trained, and servers of it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tests.server.calls import Failed, Wire, failed, tensor
from tests.server.gate import install
from tests.server.running import Running, environment

from mercato.v1 import admin_pb2, admin_pb2_grpc, catalog_pb2, prediction_pb2
from mercato_plugin import ModelFolder, publish_folder, staged_folder

DISTRIBUTION = "mercato-folders"
SCALE, PLAIN = "shop.scale", "shop.plain"

SOURCE = '''
import json
import os
import tempfile
from pathlib import Path

from mercato_plugin import Example, FolderError, GraphSpec, Model, ModelSpec, Tensor, hookimpl


def row(columns):
    return Tensor("float32", ("batch", columns), doc="numbers")


class Scale(Model):
    """y = factor * x; factor and columns are trained."""

    name = "shop.scale"

    def facts(self, ctx):
        return json.loads((ctx.files / "scale.json").read_text())

    def spec(self, ctx):
        if self.facts(ctx).get("poison"):
            os._exit(3)
        if self.facts(ctx).get("torn"):
            raise FolderError("scale.json has no scale; train the model again")
        columns = self.facts(ctx)["columns"]
        return ModelSpec(
            name=self.facts(ctx).get("name", self.name), doc="Scales.", inputs={"x": row(columns)},
            outputs={"y": row(columns), "loaded": Tensor("float32", ("batch",), doc="the factor that load has read")},
            graph=GraphSpec(inputs={"x": row(columns)}, outputs={"y": row(columns)}),
        )

    def build(self, ctx):
        from onnx import TensorProto, helper

        facts = self.facts(ctx)
        ctx.save("scale.json", json.dumps(facts).encode())
        rows = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", facts["columns"]]) for n in ("x", "y")]
        factor = helper.make_tensor("factor", TensorProto.FLOAT, [], [facts["factor"]])
        graph = helper.make_graph([helper.make_node("Mul", ["x", "factor"], ["y"])], "g", rows[:1], rows[1:], [factor])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path = Path(tempfile.mkdtemp()) / "scale.onnx"
        path.write_bytes(made.SerializeToString())
        return path

    def examples(self, ctx):
        facts = self.facts(ctx)
        y = [[float(facts["factor"])] * facts["columns"]]
        return [Example({"x": [[1.0] * facts["columns"]]}, outputs={"y": y, "loaded": [facts["factor"]]})]

    def load(self, ctx):
        if self.facts(ctx).get("unloadable"):
            raise ValueError("no scale")
        self.factor = self.facts(ctx)["factor"]

    def postprocess(self, outputs, batch):
        import numpy as np

        return {**outputs, "loaded": np.full(batch.rows, self.factor, np.float32)}


class Plain(Scale):
    """As above; without a folder it doubles two columns."""

    name = ""

    def facts(self, ctx):
        return super().facts(ctx) if ctx.files and (ctx.files / "scale.json").exists() else {
            "factor": 2.0, "columns": 2, "name": "shop.plain"
        }


@hookimpl
def mercato_models():
    return [Scale(), Plain()]
'''


class Site:
    """The plugin on disk, its store, and `models`, the folder of its trained models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.models = folder / "models"
        self.path = install(folder / "site", DISTRIBUTION, SOURCE)

    def train(self, factor: float, columns: int = 2, model: str = SCALE, **facts: Any) -> ModelFolder:
        """One more version; `metrics` are its metrics, anything else stands beside its factor."""
        metrics: Mapping[str, float] = facts.pop("metrics", {"f1": 0.5})
        trained = {"factor": factor, "columns": columns, "name": model, **facts}
        with staged_folder(self.models, model) as staging:
            (staging / "files" / "scale.json").write_text(json.dumps(trained))
            return publish_folder(staging, self.models, model, metrics, {})

    def environment(self, **settings: str) -> dict[str, str]:
        """For a command of this site; `settings` by their names in lower case."""
        own = {"store": str(self.store), "models_dir": str(self.models), "provider": "cpu", **settings}
        given = {f"MERCATO_{name.upper()}": value for name, value in own.items()}
        more = {"PYTHONPATH": self.path, "PYTHONDONTWRITEBYTECODE": "1"}
        return environment(self.folder / "home", (DISTRIBUTION,), **more, **given)


@dataclass
class Served:
    """A server of a site, while it serves."""

    site: Site
    running: Running
    ready: Mapping[str, Any]
    wire: Wire
    admin: admin_pb2_grpc.AdminServiceStub

    def answer(self, x: list[float], model: str = SCALE, **which: Any) -> tuple[int, list[float], float]:
        """The version that answered a row, its answer, and the factor that its `load` has read."""
        values = np.array([x], np.float32)
        reference = prediction_pb2.ModelRef(name=model, **which)
        named = tensor("x", shape=values.shape, data=values.tobytes())
        asked = prediction_pb2.PredictRequest(model=reference, inputs=[named])
        response = self.wire.prediction.Predict(asked, timeout=30)
        y, loaded = (np.frombuffer(output.tensor.data, np.float32).tolist() for output in response.outputs)
        return response.model.version, y, loaded[0]

    def refused(self, x: list[float], model: str = SCALE, **which: Any) -> Failed:
        """The status of a call that must fail."""
        try:
            self.answer(x, model, **which)
        except grpc.RpcError as error:
            return failed(error)
        raise AssertionError("it answered instead of refusing")

    def model(self, name: str = SCALE) -> catalog_pb2.Model:
        asked = catalog_pb2.GetModelRequest(model=prediction_pb2.ModelRef(name=name))
        return self.wire.catalog.GetModel(asked, timeout=30).model

    def versions(self, name: str = SCALE) -> dict[int, str]:
        """State of each version, newest first."""
        return {v.version: catalog_pb2.ModelState.Name(v.state)[12:] for v in self.model(name).versions}

    def workers(self) -> list[admin_pb2.Worker]:
        """Every worker, the oldest first."""
        workers = self.admin.ListWorkers(admin_pb2.ListWorkersRequest(), timeout=30).workers
        return sorted(workers, key=lambda worker: worker.started.ToNanoseconds())

    def pids(self) -> list[int]:
        return [worker.pid for worker in self.workers()]

    def listed(self) -> list[str]:
        return [model.name for model in self._catalog().models]

    def refusals(self) -> list[catalog_pb2.RefusedPlugin]:
        """What of the site's plugin is refused."""
        refused = self._catalog().refused_plugins
        return [refusal for refusal in refused if refusal.plugin.distribution == DISTRIBUTION]

    def _catalog(self) -> catalog_pb2.ListModelsResponse:
        return self.wire.catalog.ListModels(catalog_pb2.ListModelsRequest(), timeout=30)

    def load(self, model: str = SCALE, plugin: str = "", version: int = 0) -> list[tuple[str, int, str, str]]:
        """The last step of each version that a load tells of; raises what the server answers."""
        target = {"plugin": plugin} if plugin else {"model": model}
        request = admin_pb2.LoadRequest(**target, version=version)
        last = {}
        for step in self.admin.Load(request, timeout=120):
            last[step.model, step.version] = catalog_pb2.ModelState.Name(step.state)[12:], step.reason
        return [(*numbered, *state) for numbered, state in last.items()]

    def label(self, label: str, version: int, model: str = SCALE) -> dict[str, int]:
        request = admin_pb2.SetLabelRequest(model=model, label=label, version=version)
        return dict(self.admin.SetLabel(request, timeout=30).labels)


@contextmanager
def serving(site: Site, folder: Path, *flags: str, **settings: str) -> Iterator[Served]:
    """A server from ready to its end, which must be clean."""
    socket = folder / "admin" / "socket"
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    env = site.environment(admin_listen=f"unix:{socket}", **settings)
    running = Running(site.store, folder, env, *flags)
    try:
        ready = running.ready()
        with grpc.insecure_channel(running.address) as data, grpc.insecure_channel(f"unix:{socket}") as own:
            yield Served(site, running, ready, Wire(data), admin_pb2_grpc.AdminServiceStub(own))
        running.terminate()
        assert running.ended() == 0
    finally:
        running.kill()
