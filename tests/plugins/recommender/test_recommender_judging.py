"""Recall and NDCG: equal to scikit-learn's where it has them, and what counts as wanted."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from mercato_recommender.interactions import EVENT, ITEM, TIME, USER, Query, histories, queries
from mercato_recommender.judging import judged, means
from mercato_training import Table, TrainingError


def query(history: str, wanted: str, bought: str = "") -> Query:
    return Query(tuple(history), frozenset(wanted), frozenset(bought))


def table(rows: list[tuple[str, str, str]]) -> Table:
    columns = {name: np.array([row[place] for row in rows], object) for place, name in enumerate((USER, ITEM, EVENT))}
    return Table("interactions", {**columns, TIME: np.arange(len(rows)).astype("datetime64[us]")}, len(rows))


def test_ndcg_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(5)
    names = [f"i{number}" for number in range(30)]
    for _ in range(20):
        wanted = frozenset(random.choice(names, int(random.integers(1, 25)), replace=False).tolist())
        order = random.permutation(names).tolist()
        truth = np.array([[float(name in wanted) for name in order]])
        found = means([order], [wanted])
        for depth in (10, 20):
            assert found[f"ndcg@{depth}"] == pytest.approx(ndcg_score(truth, [np.arange(30, 0, -1)], k=depth))
            assert found[f"recall@{depth}"] == pytest.approx(len(wanted & set(order[:depth])) / len(wanted))


def test_popularity_stands_beside_and_leaves_out_the_history() -> None:
    found = judged([query("a", "bz", "b"), query("b", "c")], [["c", "b"], ["c", ""]], "abc")
    assert found.metrics["recall@10"] == 0.75
    assert found.metrics["baseline_recall@10"] == 0.75
    assert found.metrics["recall@10.purchase"] == 1.0
    assert found.metrics["baseline_ndcg@10"] == pytest.approx((1 / (1 + 1 / np.log2(3)) + 1 / np.log2(3)) / 2)
    assert found.rows == 2


def test_only_new_items_of_users_with_a_history_are_asked_for() -> None:
    before = table([("u", "a", "view"), ("u", "b", "view"), ("u", "a", "cart"), ("v", "a", "view")])
    after = table(
        [("u", "a", "purchase"), ("u", "c", "view"), ("u", "d", "purchase"), ("w", "c", "view"), ("v", "a", "cart")]
    )
    assert histories(before) == {"u": ["b", "a"], "v": ["a"]}
    assert queries(before, after) == [query("ba", "cd", "d")]


def test_nobody_to_ask_about_is_an_error() -> None:
    with pytest.raises(TrainingError, match="nobody with a history met a new item"):
        judged([], [], "abc")


def test_import_brings_no_build_tool() -> None:
    code = "import sys, mercato_recommender; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "mercato_recommender" in done.stdout.split()
    assert not {"torch", "safetensors", "sklearn", "scipy", "onnx", "mercato_training"} & set(done.stdout.split())
