"""A small market with planted tastes, and model folders of both models, exported and answered by a worker."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from mercato_plugin import Model, ModelFolder, publish_folder, staged_folder
from mercato_recommender import RecommenderSettings
from mercato_recommender.answering import batch_of
from mercato_server.contract.artifact import Artifact
from mercato_server.contract.batch import BatchResult, JoinedBatch
from mercato_server.contract.plugin import OfferedModel, PluginInfo, Trained
from mercato_server.export import job
from mercato_server.export.request import ExportRequest
from mercato_server.plugins.offering import SpecFacts
from mercato_server.runtime.worker import Worker
from mercato_server.store import Store
from mercato_training import Group, Job, Quiet, train
from mercato_training import Trained as Training
from mercato_vision.facts import Facts
from mercato_vision.network import ResNet18

INFO = PluginInfo("mercato-recommender", "1.0", "recommender", "mercato_recommender")
KINDS, PER_KIND, USERS, VISITS = 6, 20, 150, 14
NAMES = ("running shoes", "steel bottle", "desk lamp", "wool scarf", "coffee mug", "bicycle bell")
COLOURS = ((210, 30, 30), (30, 190, 40), (40, 60, 220), (230, 210, 40), (20, 20, 20), (200, 60, 210))
"""How the items of each kind look."""

DAMAGED, WITHOUT = (0, 19), (1, 19)
"""The item whose picture is none, and the item without one."""


def item(kind: int, number: int) -> str:
    return f"p{kind}-{number}"


def write_market(folder: Path) -> Path:
    """Tables interactions.csv and products.csv, and pictures: a user likes one kind of item, and the first of each."""
    random = np.random.default_rng(3)
    chance = 1.0 / (np.arange(PER_KIND) + 2)
    rows = []
    for user in range(USERS):
        liked = user % KINDS
        met = {item(liked, n) for n in random.choice(PER_KIND, VISITS - 3, replace=False, p=chance / chance.sum())}
        met |= {item(int(random.integers(KINDS)), int(random.integers(PER_KIND))) for _ in range(3)}
        for place, name in enumerate(random.permutation(sorted(met)).tolist()):
            day, event = 1 + place * 2, ("view", "cart", "purchase")[int(random.integers(3))]
            rows.append((f"user {user}", name, event, f"2026-01-{day:02} {user // 60:02}:{user % 60:02}:00"))
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "interactions.csv", [("user_id", "product_id", "event", "time"), *rows])
    products = [(kind, n) for kind in range(KINDS) for n in range(PER_KIND)]
    paths = {product: f"images/{item(*product)}.png" for product in products if product != WITHOUT}
    names = [(item(*product), NAMES[product[0]], paths.get(product, "")) for product in products]
    _write(folder / "products.csv", [("product_id", "name", "image"), *names])
    _draw(folder, paths, random)
    return folder


def _draw(folder: Path, paths: Mapping[tuple[int, int], str], random: np.random.Generator) -> None:
    (folder / "images").mkdir(exist_ok=True)
    for (kind, number), path in paths.items():
        pixels = np.clip(COLOURS[kind] + random.normal(0.0, 20.0, (48, 48, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / path)
        if (kind, number) == DAMAGED:
            (folder / path).write_bytes(b"no picture")


def write_vision(models: Path) -> Path:
    """A model folder of vision.category whose weights are drawn: they tell colours apart without a fit."""
    torch.manual_seed(4)
    network = ResNet18(2, (16,) * 8)
    with staged_folder(models, "vision.category") as staging:
        facts = Facts(("a", "b"), 40, network.inner)
        (staging / "files" / "category.json").write_text(json.dumps(facts.plain()), encoding="utf-8")
        save_file(network.state_dict(), staging / "files" / "category.safetensors")
        return publish_folder(staging, models, "vision.category", {}, {}).path


def run(
    model: str,
    data: Path,
    models: Path,
    *,
    salt: Path | None = None,
    renames: Mapping[str, str] | None = None,
    **given: str,
) -> Training:
    """A version of a model, trained for a few epochs: enough for most users of the market to get the kind they like."""
    # An export in this process takes all cores; threads that wait for each other cost more than a fit of this size.
    torch.set_num_threads(1)
    asked = Job(model, data, models, given=given, renames=renames or {}, device="cpu", hash_users=salt, epochs=8)
    trained = train(asked, Group(), Quiet())
    assert trained is not None
    return trained


@dataclass(frozen=True)
class Served:
    """One exported version and the worker that has loaded it."""

    artifact: Artifact
    worker: Worker
    trained: ModelFolder

    def result(self, k: int = 10, **inputs: Sequence[Any]) -> BatchResult:
        """What the worker makes of one batch."""
        batch = batch_of(inputs, k)
        return self.worker.run(JoinedBatch(batch.inputs, batch.rows, batch.parameters, batch.lengths, batch.present))

    def answer(self, k: int = 10, **inputs: Sequence[Any]) -> Mapping[str, Any]:
        """Outputs by name."""
        return self.result(k, **inputs).outputs

    def items(self, k: int = 10, **inputs: Sequence[Any]) -> list[list[str]]:
        """The items of each row, without what stands behind the last."""
        return [[name for name in row if name] for row in self.answer(k, **inputs)["item_id"].tolist()]


def export(
    model: Model, folder: ModelFolder, store: Path, settings: RecommenderSettings | None = None
) -> tuple[OfferedModel, Artifact]:
    """The folder's artifact. Raises the errors of an export."""
    settings = settings or RecommenderSettings()
    make: Any = model.spec
    spec = make(SpecFacts(folder.files, folder.version, settings))
    offered = OfferedModel(INFO, model, spec, settings, trained=Trained.of(folder))
    request = ExportRequest.of(offered, store, "a" * 64)
    return offered, job.export_offered(offered, request, Store(store), lambda progress: None)


def serve(model: Model, folder: ModelFolder, store: Path, settings: RecommenderSettings | None = None) -> Served:
    """Export the folder, then load and warm the model as a worker does."""
    offered, artifact = export(model, folder, store, settings)
    worker = Worker(offered, artifact, provider="cpu", threads=1)
    worker.load()
    worker.warm()
    return Served(artifact, worker, folder)


def _write(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
