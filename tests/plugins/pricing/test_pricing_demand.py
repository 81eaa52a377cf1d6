"""pricing.demand: it finds the planted signal, lives with what is missing, and is served as it was trained."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

from mercato_client import Client
from mercato_plugin import FolderError, Tensor, Text
from mercato_pricing import DemandModel, columns, network
from mercato_training import Column, Data, TableSchema, Trained, TrainingError
from mercato_training.judging import Judged, judge, targets
from mercato_training.served import server

Run = Callable[..., Trained]


@pytest.fixture(scope="session")
def line(trained: Run, sales: Path) -> Trained:
    return trained("pricing.demand", sales)


@pytest.fixture(scope="session")
def trees(trained: Run, sales: Path) -> Trained:
    return trained("pricing.demand", sales, algorithm="trees")


@pytest.fixture(scope="session", autouse=True)
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MERCATO_STORE", str(tmp_path_factory.mktemp("store")))
        yield


@pytest.fixture(scope="session")
def client(models: Path, line: Trained, trees: Trained) -> Iterator[Client]:
    versions = {"pricing.demand": [line.folder.version, trees.folder.version]}
    with server(models, versions, ["mercato-pricing"]) as client:
        yield client


def context(done: Trained) -> Any:
    return SimpleNamespace(files=done.folder.files, version=done.folder.version, settings=None, save=lambda *_: None)


def test_the_planted_signal_is_found(line: Trained, trees: Trained) -> None:
    # Noise has a variance of 1; a tenth of the prices and of the seasons is missing, which costs most of the rest.
    for done in (line, trees):
        assert done.folder.metrics["r2"] > 0.75
        assert done.folder.metrics["mse"] < 0.25 * done.folder.metrics["baseline_mse"]
        assert abs(done.folder.metrics["baseline_r2"]) < 0.05


def test_the_slope_of_the_price_is_the_planted_one(line: Trained) -> None:
    found = columns.read(line.folder.files)
    built = network.build(context(line))
    assert isinstance(built, torch.nn.Module)
    numbers = torch.tensor([[4.0], [5.0]], dtype=torch.float64)
    codes = torch.from_numpy(found.words({"season": ["冬", "冬"]}, 2))
    low, high = built(numbers, codes)[:, 0].tolist()
    assert high - low == pytest.approx(-3, abs=0.15)


def test_columns_that_say_nothing_are_left_out(line: Trained) -> None:
    assert columns.read(line.folder.files).names == ("price", "season")
    assert line.folder.made["notes"]["left_out"] == ["sale_id", "shop"]


def test_the_signature_names_the_columns(line: Trained) -> None:
    spec = DemandModel().spec(context(line))
    price, season = spec.inputs["price"], spec.inputs["season"]
    assert isinstance(price, Tensor) and price.optional and not price.finite and price.dtype == "float64"
    assert isinstance(season, Text) and season.optional and "冬" in season.doc
    assert spec.name == "pricing.demand" and "units" in spec.outputs["prediction"].doc


def test_served_it_scores_what_training_scored(client: Client, models: Path, sales: Path, line: Trained) -> None:
    chosen = targets(["pricing.demand:1", "pricing.demand:2"], models)
    for judged in judge(chosen, Data(sales), models, client.address):
        check_agreement(judged)


def check_agreement(judged: Judged) -> None:
    recorded = judged.target.folder.metrics
    assert judged.evaluation.metrics == pytest.approx(recorded, rel=1e-6)
    assert judged.speed.p50_ms > 0 and judged.speed.rows_per_second > 0
    assert judged.memory_bytes > 0 and judged.file_bytes > 0


def test_certificates_are_held_against_training(client: Client) -> None:
    kinds = {v.version: v.certificate.kind for v in client.model("pricing.demand").versions if v.certificate}
    assert kinds == {1: "source", 2: "recorded"}


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_missing_or_unknown_has_an_answer(client: Client, version: int) -> None:
    def predict(**inputs: Any) -> Any:
        return client.predict("pricing.demand", inputs, version=version)["prediction"]

    both = predict(price=[5.0, np.nan], season=["冬", "冬"])
    assert np.isfinite(both).all() and both[0] != both[1]
    assert predict(price=[np.nan], season=["冬"]) == both[1]
    assert predict(season=["冬"]) == both[1]
    assert predict(price=[5.0], season=["autumn"]) == predict(price=[5.0])


@pytest.mark.parametrize("version", [1, 2])
def test_rows_do_not_depend_on_their_neighbours(client: Client, version: int) -> None:
    random = np.random.default_rng(1)
    price, season = random.uniform(2, 9, 50), random.choice(["冬", "夏", "spring", "?"], 50).astype(object)

    def predict(first: int, last: int) -> Any:
        rows = {"price": price[first:last], "season": season[first:last]}
        return client.predict("pricing.demand", rows, version=version)["prediction"]

    whole = predict(0, 50)
    alone = [predict(row, row + 1)[0] for row in range(0, 50, 7)]
    assert alone == pytest.approx(whole[::7].tolist(), rel=1e-9)


def test_a_request_without_any_column_is_one_row_of_which_all_is_missing(client: Client) -> None:
    nothing = client.predict("pricing.demand", {}, version=1)["prediction"]
    assert nothing.tolist() == client.predict("pricing.demand", {"price": [np.nan]}, version=1)["prediction"].tolist()


def test_a_line_is_what_least_squares_gives_on_the_diabetes_data(trained: Run, tmp_path: Path) -> None:
    path = diabetes(tmp_path)
    done = trained("pricing.demand", path, target="progression", table="diabetes")
    names = columns.read(done.folder.files).names
    table = Data(path).table(TableSchema("diabetes", {name: Column("number") for name in ("progression", *names)}))
    parts = Data(path).parts(table, by=tuple(sorted(("progression", *names))))
    least = LinearRegression().fit(matrix(parts.train, names), parts.train["progression"])
    error = np.square(least.predict(matrix(parts.test, names)) - parts.test["progression"]).mean()
    assert done.folder.metrics["mse"] == pytest.approx(error, rel=0.01)
    assert done.folder.metrics["mse"] < 0.5 * done.folder.metrics["baseline_mse"]


def matrix(table: Any, names: tuple[str, ...]) -> Any:
    return np.stack([table[name] for name in names], axis=1)


def diabetes(folder: Path) -> Path:
    found = load_diabetes()
    with (folder / "diabetes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*found.feature_names, "progression"])
        writer.writerows([*x, y] for x, y in zip(found.data.tolist(), found.target.tolist(), strict=True))
    return folder / "diabetes.csv"


def test_the_latest_rows_can_be_held_out(trained: Run, tmp_path: Path) -> None:
    rows = "".join(f"2026-01-{day:02d},{day * 10 + hour},{day}\n" for day in range(1, 21) for hour in range(9))
    (tmp_path / "sales.csv").write_text("day,visits,units\n" + rows)
    done = trained("pricing.demand", tmp_path, time="day")
    assert done.evaluation.rows == 4 * 9
    assert columns.read(done.folder.files).time == "day"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"target": "sold"}, "the data has no column 'sold'; it has sale_id, price, season, shop, units"),
        ({"columns": "price,weather"}, "the data has no column 'weather'"),
        ({"columns": "shop"}, "column 'shop' has 1 different values; expected at least 2"),
        ({"columns": "sale_id"}, "column 'sale_id' has 600 different values"),
        ({"algorithm": "forest"}, "--set algorithm: got 'forest', expected one of linear, trees"),
    ],
)
def test_options_that_do_not_fit_the_data_are_told(trained: Run, sales: Path, given: dict[str, str], says: str) -> None:
    with pytest.raises(TrainingError) as refused:
        trained("pricing.demand", sales, **given)
    assert says in str(refused.value)


def test_a_column_that_cannot_be_an_input_is_told_with_the_way_out(trained: Run, tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text("价格,units\n" + "".join(f"{n},{2 * n}\n" for n in range(50)), encoding="utf-8")
    with pytest.raises(TrainingError, match="--rename 价格=OTHER gives it another one"):
        trained("pricing.demand", tmp_path)


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"target": 3}'])
def test_a_damaged_folder_is_told(tmp_path: Path, damage: str) -> None:
    (tmp_path / columns.FILE).write_text(damage)
    with pytest.raises(FolderError, match="columns.json of the model folder is missing or not valid"):
        columns.read(tmp_path)


def test_without_a_folder_it_is_not_built() -> None:
    with pytest.raises(FolderError, match="train it: mercato train pricing.demand"):
        DemandModel().spec(SimpleNamespace(files=None, version=None, settings=None))


def test_what_is_remembered_survives_the_way(line: Trained) -> None:
    found = columns.read(line.folder.files)
    assert json.loads(json.dumps(found.to_json()))["target"] == "units"
    assert found.words({"season": ["", None, "冬", "never"]}, 4).shape == (4, 1)
