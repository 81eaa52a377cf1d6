"""Metrics, held against scikit-learn's own."""

import numpy as np
import pytest
from sklearn import metrics

from mercato_plugin.folder import MAX_METRICS
from mercato_training import classification, regression
from mercato_training.schema import MAX_LABELS

LABELS = ("a", "b", "c", "d")


def test_classification_is_what_scikit_learn_says() -> None:
    random = np.random.default_rng(0)
    truth, guess = random.choice(LABELS[:3], 200), random.choice(LABELS[:3], 200)
    found = classification(LABELS, truth, guess, majority="b")
    assert found.metrics["accuracy"] == pytest.approx(metrics.accuracy_score(truth, guess))
    assert found.metrics["f1"] == pytest.approx(metrics.f1_score(truth, guess, average="macro"))
    assert found.metrics["recall"] == pytest.approx(metrics.recall_score(truth, guess, average="macro"))
    assert found.metrics["recall.b"] == pytest.approx((guess[truth == "b"] == "b").mean())
    assert found.metrics["baseline_accuracy"] == pytest.approx((truth == "b").mean())
    assert found.confusion is not None and found.confusion.counts.sum() == found.rows == 200
    assert found.confusion.counts[0, 1] == ((truth == "a") & (guess == "b")).sum()


def test_a_label_that_is_predicted_and_never_expected_counts() -> None:
    found = classification(("a", "b"), ["a", "a"], ["a", "b"])
    assert found.metrics["f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_every_prediction_stands_in_the_confusion() -> None:
    found = classification(("a", "b"), ["a", "b", "c"], ["a", "d", "a"], majority="e")
    assert found.confusion is not None and found.confusion.labels == ("a", "b", "c", "d")
    assert found.confusion.counts.sum() == 3 and found.confusion.counts[1, 3] == 1
    truth, guess = ["a", "b", "c"], ["a", "d", "a"]
    assert found.metrics["f1"] == pytest.approx(metrics.f1_score(truth, guess, average="macro", zero_division=0))
    assert found.metrics["baseline_accuracy"] == found.metrics["baseline_f1"] == 0


def test_regression_is_what_scikit_learn_says() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=100)
    guess = truth + random.normal(size=100)
    found = regression(truth, guess, mean=0.5)
    assert found.metrics["mse"] == pytest.approx(metrics.mean_squared_error(truth, guess))
    assert found.metrics["mae"] == pytest.approx(metrics.mean_absolute_error(truth, guess))
    assert found.metrics["r2"] == pytest.approx(metrics.r2_score(truth, guess))
    assert found.metrics["baseline_mse"] == pytest.approx(np.square(truth - 0.5).mean())


def test_equal_numbers_leave_nothing_to_explain() -> None:
    assert regression(np.ones(3), np.array([1.0, 2.0, 3.0]), mean=1.0).metrics["r2"] == 0.0


def test_the_metrics_of_as_many_labels_as_a_column_may_have_can_be_published() -> None:
    labels = [f"label {number}" for number in range(MAX_LABELS)]
    assert len(classification(labels, labels, labels).metrics) < MAX_METRICS
