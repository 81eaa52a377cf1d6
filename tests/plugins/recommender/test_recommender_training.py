"""Training both models on a small market: better than popularity, the same twice, and what is left out stays cold."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tests.plugins.recommender.market import Served, run
from tests.plugins.semantic.encoders import write_bert

from mercato_recommender.judging import evaluate
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


def test_names_speak_for_items_that_nobody_met(market: Path, tmp_path: Path) -> None:
    given: Any = {"cold_share": "0.15", "text": "true", "encoder": str(write_bert(tmp_path / "encoder"))}
    described = run("recommender.two_tower", market, tmp_path / "models", **given)
    bare = run("recommender.two_tower", market, tmp_path / "models", cold_share="0.15")
    assert described.evaluation.metrics["recall@20.cold"] > 0.2
    assert bare.evaluation.metrics["recall@20.cold"] == 0.0
    assert described.folder.made["notes"]["described"] == 120
    cold = described.folder.made["notes"]["items"] - bare.folder.made["notes"]["items"]
    assert described.folder.made["notes"]["cold"] == bare.folder.made["notes"]["cold"] == cold
    assert load_file(described.folder.files / "towers.safetensors")["evident"].all()
    assert not load_file(described.folder.files / "towers.safetensors")["fitted"][-cold:].any()


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
    ],
)
def test_what_cannot_be_trained_is_refused(given: Any, message: str, market: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=message):
        run("recommender.two_tower", market / "interactions.csv", tmp_path / "models", **given)
