"""What a model scores, beside what a model that has learned nothing scores on the same rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from mercato_training.table import Array
from mercato_training.texts import counted

FEW = 20
"""Held-out rows below which people are told that there are few."""


@dataclass(frozen=True)
class Confusion:
    """How often which label was taken for which: `counts[expected, predicted]`, int64, in the order of `labels`."""

    labels: tuple[str, ...]
    counts: Array


@dataclass(frozen=True)
class Fit:
    """Expected and predicted numbers of the same rows, both of shape (rows,)."""

    expected: Array
    predicted: Array


@dataclass(frozen=True)
class Evaluation:
    """Flat metrics by name, those of the baseline as `baseline_<name>`, on `rows` rows.

    `confusion` belongs to labels, `fit` to numbers; both are for plots and tables.
    """

    metrics: Mapping[str, float]
    rows: int
    confusion: Confusion | None = None
    fit: Fit | None = None


def few(rows: int) -> str:
    """What people are told then."""
    return f"judged by {counted(rows, 'row')}, fewer than {FEW}: the metrics may be far off"


def classification(
    labels: Sequence[str], expected: Sequence[str] | Array, predicted: Sequence[str] | Array, majority: str = ""
) -> Evaluation:
    """Accuracy, macro F1 and macro recall, recall and F1 per label, beside those of always answering `majority`.

    `majority` is the most frequent label of the rows that were fitted; of those expected here when not given. A label
    that is neither expected nor predicted counts in no mean.
    """
    truth, guess = np.asarray(expected, object).astype(str), np.asarray(predicted, object).astype(str)
    constant = majority or _most_frequent(truth)
    # Data that is judged may have labels that were not fitted, and the other way round.
    known = tuple(dict.fromkeys([*labels, *np.unique(truth).tolist(), *np.unique(guess).tolist()]))
    scores = _scores(known, truth, guess)
    always = _scores(tuple(dict.fromkeys([*known, constant])), truth, np.full(len(truth), constant), brief=True)
    counts = confusion_matrix(truth, guess, labels=list(known)).astype(np.int64)
    baseline = {f"baseline_{name}": value for name, value in always.items()}
    return Evaluation(scores | baseline, len(truth), confusion=Confusion(known, counts))


def regression(expected: Array, predicted: Array, mean: float) -> Evaluation:
    """MSE, MAE and R2, beside those of always answering `mean`, the mean of the rows that were fitted."""
    truth, guess = np.asarray(expected, np.float64), np.asarray(predicted, np.float64)
    scores = _errors(truth, guess)
    baseline = {f"baseline_{name}": value for name, value in _errors(truth, np.full_like(truth, mean)).items()}
    return Evaluation(scores | baseline, len(truth), fit=Fit(truth, guess))


def _scores(labels: Sequence[str], truth: Array, guess: Array, *, brief: bool = False) -> dict[str, float]:
    found: Any = precision_recall_fscore_support(truth, guess, labels=list(labels), zero_division=0.0)
    _, recall, f1, support = found
    seen = (support > 0) | np.isin(np.asarray(labels), guess)
    scores = {
        "accuracy": float((truth == guess).mean()),
        "f1": float(f1[seen].mean()),
        "recall": float(recall[support > 0].mean()),
    }
    if brief:
        return scores
    per_label = [(name, label, value) for name, values in (("recall", recall), ("f1", f1)) for label, value in
                 zip(labels, values, strict=True)]  # fmt: skip
    return scores | {f"{name}.{label}": float(value) for name, label, value in per_label}


def _errors(truth: Array, guess: Array) -> dict[str, float]:
    difference = guess - truth
    spread = float(np.square(truth - truth.mean()).sum())
    mse = float(np.square(difference).mean())
    # Of numbers that are all equal there is nothing to explain.
    r2 = 1.0 - float(np.square(difference).sum()) / spread if spread else 0.0
    return {"mse": mse, "mae": float(np.abs(difference).mean()), "r2": r2}


def _most_frequent(labels: Array) -> str:
    names, counts = np.unique(labels, return_counts=True)
    return str(names[counts.argmax()])
