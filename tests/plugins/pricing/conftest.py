"""Tables with known signals, and models trained on them in this process."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mercato_training import Group, Job, Quiet, Trained, train

Run = Callable[..., Trained]
ROWS = 600


@pytest.fixture(scope="session")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """units = 40 - 3 price + 8 in Chinese words for "winter" + noise of 1; a tenth of everything is missing."""
    random = np.random.default_rng(5)
    price = random.uniform(2, 9, ROWS)
    season = random.choice(["冬", "夏", "spring"], ROWS)
    units = 40 - 3 * price + 8 * (season == "冬") + random.normal(0, 1, ROWS)
    path = tmp_path_factory.mktemp("sales") / "sales.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sale_id", "price", "season", "shop", "units"])
        for row in range(ROWS):
            missing = random.random(2) < 0.1
            shown = ["" if gone else value for gone, value in zip(missing, (price[row], season[row]), strict=True)]
            writer.writerow([f"s{row}", *shown, "only one", units[row]])
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all models that these tests train."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def trained(models: Path) -> Run:
    """Trains in this process."""

    def run(model: str, data: Path, **given: Any) -> Trained:
        job = Job(model, data, models, {key: str(value) for key, value in given.items()}, device="cpu")
        done = train(job, Group(), Quiet())
        assert done is not None
        return done

    return run
