"""Two small shops, a trunk that was fitted to nothing, and the indexes trained on them, once for the whole run."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.plugins.reviews.served import Served, serve
from tests.plugins.semantic.encoders import write_bert

from mercato_search import ProductsModel, SearchSettings
from mercato_shop import write_shop
from mercato_training import Group, Job, Quiet, Report, Trained, train
from mercato_vision.facts import FILE, WEIGHTS, Facts
from mercato_vision.network import INNER, ResNet18

MODEL = "search.products"


@dataclass(frozen=True)
class Found:
    """A shop, what training made of it, and the version that serves it."""

    shop: Path
    trained: Trained
    served: Served


def run(data: Path, models: Path, report: Report | None = None, **given: str) -> Trained:
    trained = train(Job(MODEL, data, models, given=given, device="cpu"), Group(), report or Quiet())
    assert trained is not None
    return trained


@pytest.fixture(scope="session")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version's folder of vision.category, 40 pixels a side."""
    folder = tmp_path_factory.mktemp("vision") / "1"
    (folder / "files").mkdir(parents=True)
    torch.manual_seed(0)
    inner = tuple(width // 8 for width in INNER)
    facts = Facts(("a", "b"), 40, inner)
    save_file(ResNet18(2, inner).state_dict(), folder / "files" / WEIGHTS)
    (folder / "files" / FILE).write_text(json.dumps(facts.plain()))
    return folder


@pytest.fixture(scope="session")
def found(vision: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """A Chinese shop by its terms and pictures, in inverted lists."""
    folder = tmp_path_factory.mktemp("terms")
    write_shop(folder / "shop", language="zh", products=120, users=20)
    trained = run(folder / "shop", folder / "models", text="terms", width="32", vision=str(vision), flat="60")
    return Found(folder / "shop", trained, serve(ProductsModel(), trained.folder, folder / "store", SearchSettings()))


@pytest.fixture(scope="session")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """An English shop by an encoder that was fitted to nothing, without pictures, every vector compared."""
    folder = tmp_path_factory.mktemp("encoded")
    write_shop(folder / "shop", products=60, users=20)
    settings = SearchSettings(write_bert(folder / "encoder"), "mul")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MERCATO_PLUGINS__MERCATO_SEARCH__ENCODER", str(settings.encoder))
        patch.setenv("MERCATO_PLUGINS__MERCATO_SEARCH__LANGUAGE", "mul")
        trained = run(folder / "shop", folder / "models", text="encoder")
    return Found(folder / "shop", trained, serve(ProductsModel(), trained.folder, folder / "store", settings))
