"""pricing.demand: it finds the planted signal, lives with what is missing, and is served as it was trained."""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from mercato_client import Client
from mercato_plugin import FolderError, Tensor, Text
from mercato_pricing import DemandModel, columns, network
from mercato_pricing.demand_training import evaluate
from mercato_training import Column, Data, Group, Job, Quiet, TableSchema, Trained, TrainingError, train
from mercato_training.judging import Judged, judge, targets
from mercato_training.schema import ROW_KEY
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
    assert line.folder.made["notes"]["left_out"] == ["shop"]


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
    every = tuple(sorted(("progression", *names)))
    table = Data(path).table(TableSchema("diabetes", {name: Column("number") for name in every}, every))
    parts = Data(path).parts(table, by=ROW_KEY)
    rows = parts.train.with_rows(parts.validation)
    least = LinearRegression().fit(matrix(rows, names), rows["progression"])
    error = np.square(least.predict(matrix(parts.test, names)) - parts.test["progression"]).mean()
    assert done.folder.metrics["mse"] == pytest.approx(error, rel=0.02)
    assert done.folder.metrics["mse"] < 0.6 * done.folder.metrics["baseline_mse"]


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
    assert columns.read(done.folder.files).names == ("visits",)
    scored = evaluate(Data(tmp_path), answering(done), context(done))
    assert scored.metrics == pytest.approx(done.folder.metrics)


def test_a_gap_among_times_drops_its_row(trained: Run, tmp_path: Path) -> None:
    rows = "".join(f"2026/{1 + day // 28}/{1 + day % 28},{day},{3 * day}\n" for day in range(60))
    (tmp_path / "sales.csv").write_text("day,visits,units\n,5,15\n" + rows)
    done = trained("pricing.demand", tmp_path, time="day")
    assert done.evaluation.rows == 12 and done.data.tables["sales"].dropped == {"day is missing": 1}


def answering(done: Trained) -> Callable[[Any], Any]:
    """Answers of a model of numbers alone, as a server would give them."""
    found, built = columns.read(done.folder.files), network.build(context(done))
    assert isinstance(built, torch.nn.Module)

    def predict(inputs: Any) -> Any:
        numbers = torch.from_numpy(found.numbers(inputs, len(inputs[found.names[0]])))
        return {"prediction": built(numbers)[:, 0].detach().numpy()}

    return predict


def people(folder: Path, rows: int = 120, *, ids: str = "") -> Path:
    """units = 2 price, with ids of people and their phones; `ids` names a column that tells rows apart."""
    found = [{"price": n % 17, "size": n % 5, "user_id": f"u{n % 9}", "phone": f"1381234{n:04d}", "units": 2 * (n % 17)}
             for n in range(rows)]  # fmt: skip
    with (folder / "sales.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*found[0], *([ids] if ids else [])])
        writer.writeheader()
        writer.writerows(row | ({ids: f"s{n}"} if ids else {}) for n, row in enumerate(found))
    return folder


def test_nothing_is_predicted_from_people(trained: Run, tmp_path: Path) -> None:
    done = trained("pricing.demand", people(tmp_path))
    assert columns.read(done.folder.files).names == ("price", "size")
    assert done.folder.made["notes"]["left_out"] == ["phone", "user_id"]
    assert not done.folder.made["users_hashed"]
    content = "".join(path.read_text(errors="replace") for path in done.folder.files.iterdir())
    assert "1381234" not in content and "u1" not in content
    with pytest.raises(TrainingError, match="--set columns: 'phone' has numbers that point to people"):
        trained("pricing.demand", tmp_path, columns="phone,price")


def test_ids_of_people_that_are_asked_for_are_hashed(models: Path, tmp_path: Path) -> None:
    (tmp_path / "salt").write_bytes(b"s" * 32)
    job = Job("pricing.demand", people(tmp_path), models, {"columns": "user_id,price"}, device="cpu")
    done = train(replace(job, hash_users=tmp_path / "salt"), Group(), Quiet())
    assert done is not None and done.folder.made["users_hashed"]
    (category,) = columns.read(done.folder.files).categories
    assert category.name == "user_id" and {len(word) for word in category.words} == {32}
    (tmp_path / "sales.csv").write_text("price,units\n" + "".join(f"{n},{n}\n" for n in range(99)))
    with pytest.raises(TrainingError, match="--hash-users: the data has no column 'user_id' to hash"):
        train(replace(job, given={}, hash_users=tmp_path / "salt"), Group(), Quiet())


@pytest.mark.parametrize("ids", ["", "sale_id"])
def test_the_same_rows_are_held_out_whatever_columns_are_chosen(trained: Run, tmp_path: Path, ids: str) -> None:
    def held_out(done: Trained) -> list[Any]:
        seen: list[Any] = []

        def predict(inputs: Any) -> Any:
            seen.extend(inputs["price"].tolist())
            return {"prediction": np.zeros(len(inputs["price"]))}

        evaluate(Data(tmp_path), predict, context(done))
        return seen

    every = trained("pricing.demand", people(tmp_path, ids=ids))
    one = trained("pricing.demand", tmp_path, columns="price")
    assert columns.read(one.folder.files).key == ((ids,) if ids else ("phone", "price", "size", "units", "user_id"))
    first = held_out(every)
    assert first == held_out(one) and len(first) == every.evaluation.rows == one.evaluation.rows
    people(tmp_path, 240, ids=ids)
    assert held_out(one)[: len(first)] == first


def test_rows_without_an_id_are_told_apart_by_all_that_they_have(trained: Run, tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text("sale_id,price,units\n" + "".join(f",{n},{n}\n" for n in range(99)))
    done = trained("pricing.demand", tmp_path)
    assert columns.read(done.folder.files).key == ("price", "sale_id", "units")


def test_trees_end_at_their_best(trained: Run, sales: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[Any] = []
    fit: Any = HistGradientBoostingRegressor.fit

    def watched(self: Any, *given: Any, **more: Any) -> Any:
        fitted.append(self)
        return fit(self, *given, **more)

    monkeypatch.setattr(HistGradientBoostingRegressor, "fit", watched)
    done = trained("pricing.demand", sales, algorithm="trees", shrinkage=0.3)
    tried, kept = fitted
    assert done.folder.made["notes"]["trees"] == kept.n_iter_ == tried.validation_score_.argmax() < tried.n_iter_


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"target": "sold"}, "the data has no column 'sold'; it has sale_id, price, season, shop, units"),
        ({"columns": "price,weather"}, "the data has no column 'weather'"),
        ({"columns": "shop"}, "column 'shop' has 1 different value; expected at least 2"),
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


def write(folder: Path, **columns: Any) -> Path:
    """`sales.csv` of 60 rows, of each column what its function gives for the row's number."""
    rows = [",".join(f'"{value(row)}"' for value in columns.values()) for row in range(60)]
    (folder / "sales.csv").write_text("\n".join([",".join(columns), *rows]), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("price", "says"),
    [
        (
            lambda row: "on request" if row == 16 else row / 4,
            "column 'price', row 17: got 'on request', expected a num",
        ),
        (lambda row: f"{row},59", "column 'price', row 1: got '0,59', expected a number of digits and a point alone"),
        (lambda row: f"€{row}.5", "column 'price', row 1: got '€0.5', expected a number of digits and a point alone"),
        (lambda row: "2e40" if row == 5 else row, "column 'price', row 6: got 2e+40, expected a number from -1e+30"),
    ],
)
def test_a_column_of_numbers_with_a_wrong_one_is_refused(trained: Run, tmp_path: Path, price: Any, says: str) -> None:
    with pytest.raises(TrainingError) as refused:
        trained("pricing.demand", write(tmp_path, price=price, units=int))
    assert says in str(refused.value)
    if "2e+40" not in says:
        assert str(refused.value).endswith("; --set categories=price takes the column as words")


def test_a_column_may_be_one_of_words_whatever_it_looks_like(trained: Run, tmp_path: Path) -> None:
    path = write(tmp_path, size=lambda row: ["38", "39", "M"][row % 3], price=int, units=int)
    with pytest.raises(TrainingError, match="column 'size', row 3: got 'M'"):
        trained("pricing.demand", path)
    done = trained("pricing.demand", path, categories="size")
    assert [category.name for category in columns.read(done.folder.files).categories] == ["size"]
    with pytest.raises(TrainingError, match="--set categories: 'size' is not among the columns to predict from"):
        trained("pricing.demand", path, columns="price", categories="size")


@pytest.mark.parametrize("algorithm", ["linear", "trees"])
def test_a_target_that_no_fit_can_square_is_refused(trained: Run, tmp_path: Path, algorithm: str) -> None:
    with pytest.raises(TrainingError, match="column 'units', row 2: got 1e"):
        trained("pricing.demand", write(tmp_path, price=int, units=lambda row: row * 1e150), algorithm=algorithm)


def test_copies_of_a_sale_count_once_and_two_of_one_id_are_refused(trained: Run, tmp_path: Path) -> None:
    path = write(tmp_path, sale_id=lambda row: f"s{max(row, 1)}", price=lambda row: max(row, 1), units=lambda row: 1.0)
    table = trained("pricing.demand", path).data.tables["sales"]
    assert (table.rows, dict(table.dropped)) == (59, {"sale_id is a copy of an earlier row": 1})
    path = write(tmp_path, sale_id=lambda row: f"s{max(row, 1)}", price=int, units=int)
    with pytest.raises(TrainingError, match="rows 1 and 2 have the same sale_id 's1' and different values"):
        trained("pricing.demand", path)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"units": int}, "sales: beside 'units' there is no column to predict from"),
        ({"shop": lambda row: "one", "units": int}, "there is no column to predict from: shop (1 different value)"),
        ({"my price": int, "units": int}, "--rename 'my price'=OTHER gives it another one"),
        ({"sold": int, "price": int}, "--set target: the data has no column 'units'; it has sold, price"),
    ],
)
def test_a_table_without_the_columns_is_told(trained: Run, tmp_path: Path, given: dict[str, Any], says: str) -> None:
    with pytest.raises(TrainingError) as refused:
        trained("pricing.demand", write(tmp_path, **given))
    assert says in str(refused.value)


def test_a_column_of_numbers_is_no_time(trained: Run, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="column 'price', row 1: got '0', expected a time"):
        trained("pricing.demand", write(tmp_path, price=int, cost=int, units=int), time="price")


def test_a_table_without_a_fitted_column_is_told(line: Trained, tmp_path: Path) -> None:
    write(tmp_path, season=lambda row: "冬", cost=int, units=int)
    with pytest.raises(TrainingError) as refused:
        evaluate(Data(tmp_path, is_whole=True), lambda inputs: {}, context(line))
    assert str(refused.value) == (
        "sales: column 'price', which the model was fitted to, is missing; there are season, cost, units; "
        "--rename THEIRS=price takes one of another name"
    )


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
