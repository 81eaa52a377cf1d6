"""One market, both models trained on it and served, for all tests of the package."""

from pathlib import Path

import pytest
from tests.plugins.recommender.market import Served, run, serve, write_market, write_vision

from mercato_recommender import ItemsModel, TwoTowerModel
from mercato_training import Trained

MODELS = {"recommender.items": ItemsModel, "recommender.two_tower": TwoTowerModel}


@pytest.fixture(scope="package")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("market"))


@pytest.fixture(scope="package")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vision(tmp_path_factory.mktemp("vision"))


@pytest.fixture(scope="package", params=MODELS)
def trained(request: pytest.FixtureRequest, market: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(request.param, market, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="package")
def served(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Served:
    return serve(MODELS[trained.folder.model](), trained.folder, tmp_path_factory.mktemp("store"))
