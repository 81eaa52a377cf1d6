"""Training both models on a small market: better than popularity, the same twice, and what is left out stays cold."""

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.plugins.recommender.market import Served, run

from mercato_recommender.judging import evaluate
from mercato_recommender.tower_fit import ItemTower, Samples, Towers, lift
from mercato_recommender.tower_network import UserTower
from mercato_semantic.building import packaged_folder
from mercato_training import EvaluateContext, Job, Trained, TrainingError


def test_both_are_better_than_popularity(trained: Trained) -> None:
    metrics = trained.evaluation.metrics
    for name in ("recall@10", "recall@20", "ndcg@10", "ndcg@20"):
        assert metrics[name] > 1.3 * metrics[f"baseline_{name}"] > 0
    assert 0 < metrics["recall@10.purchase"] <= 1


def test_the_served_version_scores_what_training_said(served: Served, trained: Trained, market: Path) -> None:
    def predict(inputs: Any, parameters: Any) -> Mapping[str, Any]:
        return served.answer(**inputs, **parameters)

    context = EvaluateContext(trained.folder.files, trained.folder.version, None)
    assert evaluate(Job("", market, Path()).read(), predict, context).metrics == trained.evaluation.metrics


def test_the_order_of_the_rows_changes_no_file(trained: Trained, market: Path, tmp_path: Path) -> None:
    with (market / "interactions.csv").open(encoding="utf-8") as file:
        head, *rows = list(csv.reader(file))
    with (tmp_path / "interactions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *reversed(rows)])
    again = run(trained.folder.model, tmp_path / "interactions.csv", tmp_path / "models")
    assert again.folder.digest == trained.folder.digest


def test_names_and_pictures_speak_for_items_that_nobody_met(market: Path, vision: Path, tmp_path: Path) -> None:
    text: Any = {"text": "true", "encoder": str(packaged_folder())}
    seen: Any = {"vision": str(vision)}
    ids, names, pictures, both = (
        run("recommender.two_tower", market, tmp_path / "models", cold_share="0.15", **given)
        for given in ({}, text, seen, {**text, **seen})
    )
    assert ids.evaluation.metrics["recall@20.cold"] == 0.0
    cold = ids.folder.made["notes"]["cold"]
    for trained, known in ((names, 120), (pictures, 118), (both, 120)):
        assert trained.evaluation.metrics["recall@20.cold"] > 0.3
        assert trained.folder.made["notes"]["items"] == ids.folder.made["notes"]["items"] + cold == 120
        assert trained.folder.made["notes"]["described"] == known
        towers = load_file(trained.folder.files / "towers.safetensors")
        assert not towers["fitted"][-cold:].any()
        assert towers["evident"].sum() >= known
    assert "pictures" not in names.folder.made["notes"]
    assert pictures.folder.made["notes"]["pictures"] == both.folder.made["notes"]["pictures"] == 118


def test_new_items_take_their_share_of_the_nearest() -> None:
    torch.manual_seed(2)
    items, rows = 100, 64
    item = ItemTower(items, 8, torch.zeros(items, 0), 0.0)
    user = UserTower(torch.ones(items, dtype=torch.bool), 8, decay=1.0, longest=3)
    towers = Towers(user, item, torch.zeros(items), 0.1).eval()
    stop = Samples(torch.randint(items, (rows, 3)), torch.zeros(rows, dtype=torch.long))
    is_new = torch.arange(items) >= 80
    with torch.no_grad():
        vectors = item(torch.arange(items))
        near = (towers.embedded(stop.history) @ vectors.T).scatter(1, stop.history, -2.0)
        for share in (0.4, 0.9):
            added = lift(towers, vectors, is_new, share, stop)
            best = (near + added * is_new).topk(20, dim=1).indices
            assert is_new[best].float().mean().item() == pytest.approx(share, abs=1 / rows)
        assert lift(towers, vectors, is_new, 0.01, stop) == lift(towers, vectors, is_new & False, 0.5, stop) == 0.0


def test_a_table_without_events_and_of_other_names_is_enough(market: Path, tmp_path: Path) -> None:
    with (market / "interactions.csv").open(encoding="utf-8") as file:
        rows = [(user, product, time) for user, product, _, time in csv.reader(file)]
    renames = {"客户": "user_id", "商品": "product_id", "时间": "time"}
    with (tmp_path / "log.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([tuple(renames), *rows[1:]])
    trained = run("recommender.items", tmp_path / "log.csv", tmp_path / "models", renames=renames)
    assert not any(name.endswith(".purchase") for name in trained.evaluation.metrics)


def test_ids_that_look_like_phone_numbers_stay(market: Path, tmp_path: Path) -> None:
    text = (market / "interactions.csv").read_text(encoding="utf-8")
    (tmp_path / "interactions.csv").write_text(text.replace("p2-3", "13812345678"), encoding="utf-8")
    trained = run("recommender.items", tmp_path / "interactions.csv", tmp_path / "models")
    assert "13812345678" in (trained.folder.files / "catalogue.json").read_text()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"neighbors": "5"}, "--set: there is no 'neighbors'"),
        ({"size": "1"}, "--set size: got 1, expected 4 to 256"),
        ({"text": "true"}, "the data is one file, expected a folder with interactions and products"),
        ({"vision": "models/1"}, "the data is one file, expected a folder with interactions and products"),
    ],
)
def test_what_cannot_be_trained_is_refused(given: Any, message: str, market: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=message):
        run("recommender.two_tower", market / "interactions.csv", tmp_path / "models", **given)


def test_a_damaged_vision_model_and_products_without_pictures_are_refused(
    market: Path, vision: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "vision.category" / "1"
    shutil.copytree(vision, damaged)
    (damaged / "files" / "category.json").write_text("{}")
    _refused(market, damaged, "--set vision: .*category.json' is not the file that training wrote")
    _refused(market, tmp_path / "gone" / "1", "--set vision: got gone/1, expected a model folder <models-dir>/vision")
    products = (market / "products.csv").read_text(encoding="utf-8")
    for name, text, message in (
        ("unnamed", products.replace("image", "photo"), "column 'image' is missing, which --set vision reads"),
        ("outside", products.replace("images/", "../images/"), "column 'image' holds a path that is not below"),
        ("gone", products.replace("images/", "gone/"), "none of 120 pictures can be read"),
    ):
        shutil.copytree(market, tmp_path / name)
        (tmp_path / name / "products.csv").write_text(text, encoding="utf-8")
        _refused(tmp_path / name, vision, message)


def _refused(data: Path, vision: Path, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        run("recommender.two_tower", data, data / "models", vision=str(vision))
