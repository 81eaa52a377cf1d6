"""Shows that the training code of the page for plugin authors trains, and scores the same when it is evaluated."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.docs.pages import blocks, read

from mercato_plugin import staged_folder
from mercato_training import Data, Group, Quiet, TrainContext

PAGE = "docs/how-to/teach-a-plugin-to-train.md"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The page's first program as the module it is."""
    module = ModuleType("mercato_shipping_training")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(blocks(read(PAGE))[0].text, PAGE, "exec"), vars(module))  # noqa: S102  (our own page)
    return module


@pytest.fixture
def parcels(tmp_path: Path) -> Path:
    """Days of delay are 1 + 0.1 per kg + 0.5 per 100 km."""
    random = np.random.default_rng(0)
    rows = zip(random.uniform(0, 20, 400).tolist(), random.uniform(0, 1000, 400).tolist(), strict=True)
    lines = [f"{weight},{km},{1 + 0.1 * weight + 0.005 * km}" for weight, km in rows]
    (tmp_path / "parcels.csv").write_text("\n".join(["weight,km,days", *lines]))
    return tmp_path


def test_the_page_s_model_trains_and_is_evaluated_alike(written: Any, parcels: Path) -> None:
    data = Data(parcels)
    torch.manual_seed(7)
    with staged_folder(parcels, "shipping.delay") as staging:
        context = TrainContext(
            model="shipping.delay", staging=staging, data=data, given={"hidden": "8"}, settings=None, seed=7,
            epochs=None, device=torch.device("cpu"), group=Group(), report=Quiet(), checkpoints=parcels / "checkpoints",
        )  # fmt: skip
        trained = written.train(data, context)
        weights = load_file(context.files / "weights.safetensors")

    def predict(inputs: dict[str, Any]) -> dict[str, Any]:
        hidden = np.maximum(inputs["parcel"] @ weights["0.weight"].numpy().T + weights["0.bias"].numpy(), 0)
        return {"days": hidden @ weights["2.weight"].numpy().T + weights["2.bias"].numpy()}

    evaluated = written.evaluate(data, predict, SimpleNamespace(files=None, version=1, settings=None))
    assert trained.metrics["mse"] < 0.2 * trained.metrics["baseline_mse"]
    assert evaluated.metrics["mse"] == pytest.approx(trained.metrics["mse"], rel=1e-4)
