"""Model folders as training writes them, exported with their certificate and answered by a worker, as a server does."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from mercato_plugin import Example, Model, ModelFolder, ModelSpec, publish_folder
from mercato_plugin.examples import write_examples
from mercato_server.contract.artifact import Artifact
from mercato_server.contract.batch import BatchResult, JoinedBatch
from mercato_server.contract.plugin import OfferedModel, PluginInfo, Trained
from mercato_server.export import job
from mercato_server.export.request import ExportRequest
from mercato_server.plugins.offering import SpecFacts
from mercato_server.runtime.worker import Worker
from mercato_server.store import Store

INFO = PluginInfo("mercato-reviews", "1.0", "reviews", "mercato_reviews")


@dataclass(frozen=True)
class Served:
    """One exported version and the worker that has loaded it."""

    spec: ModelSpec
    artifact: Artifact
    worker: Worker

    def result(self, texts: Sequence[str]) -> BatchResult:
        """What the worker makes of one batch."""
        return self.worker.run(JoinedBatch({"text": np.array(texts, object)}, len(texts)))

    def answer(self, texts: Sequence[str]) -> Mapping[str, Any]:
        """Outputs by name."""
        return self.result(texts).outputs


def write_folder(
    models_dir: Path,
    model: str,
    facts: tuple[str, Mapping[str, Any]],
    tensors: tuple[str, Mapping[str, torch.Tensor]],
    examples: Sequence[Example] = (),
) -> ModelFolder:
    """A model folder with one file of facts, one of tensors, and recorded examples."""
    staging = models_dir / model / ".staging"
    files = staging / "files"
    files.mkdir(parents=True)
    (files / facts[0]).write_text(json.dumps(facts[1], ensure_ascii=False))
    save_file(dict(tensors[1]), files / tensors[0])
    write_examples(files / "examples.json", examples)
    return publish_folder(staging, models_dir, model, {"accuracy": 1.0}, {})


def spec_of(model: Model, folder: ModelFolder, settings: Any = None) -> ModelSpec:
    make: Any = model.spec
    spec: ModelSpec = make(SpecFacts(folder.files, folder.version, settings))
    return spec


def export(model: Model, folder: ModelFolder, store: Path, settings: Any = None) -> tuple[OfferedModel, Artifact]:
    """The folder's artifact. Raises the errors of an export."""
    spec = spec_of(model, folder, settings)
    offered = OfferedModel(INFO, model, spec, settings, trained=Trained.of(folder))
    request = ExportRequest.of(offered, store, "a" * 64)
    return offered, job.export_offered(offered, request, Store(store), lambda progress: None)


def serve(model: Model, folder: ModelFolder, store: Path, settings: Any = None) -> Served:
    """Export the folder, then load and warm the model as a worker does."""
    offered, artifact = export(model, folder, store, settings)
    worker = Worker(offered, artifact, provider="cpu", threads=1)
    worker.load()
    worker.warm()
    return Served(offered.spec, artifact, worker)
