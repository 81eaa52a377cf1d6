"""Judging answers by what users met afterwards: recall and NDCG of the best k, beside those of popularity."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mercato_recommender.catalogue import FILE, read_catalogue
from mercato_recommender.interactions import SCHEMA, Query, queries, split
from mercato_training import Data, EvaluateContext, Evaluation, TrainingError

DEPTHS = (10, 20)
MOST = max(DEPTHS)

Wanted = frozenset[str]
Predict = Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]


def evaluate(data: Data, predict: Predict, ctx: EvaluateContext) -> Evaluation:
    """The served model on what users met in the latest fifth of the rows, from their histories before it."""
    parts = split(data, data.table(SCHEMA))
    asked = queries(parts.seen, parts.test)
    items = read_catalogue(ctx.files / FILE, "recommender").items
    histories = [list(query.history[-200:]) for query in asked]
    answers = predict({"history": histories}, {"k": MOST})["item_id"] if asked else []
    return judged(asked, answers, items)


def judged(asked: Sequence[Query], answers: Iterable[Sequence[str]], items: Sequence[str]) -> Evaluation:
    """Means over the queries; `answers` have the best first, `items` the most popular first.

    Raises TrainingError where nobody met anything new.
    """
    if not asked:
        raise TrainingError("nobody with a history met a new item in the latest fifth of the rows; bring more data")
    given, popular = [list(answer) for answer in answers], [most_popular(query, items) for query in asked]
    wanted, bought = [query.wanted for query in asked], [query.bought for query in asked]
    metrics = means(given, wanted) | _named(means(popular, wanted), "baseline_{}")
    if any(bought):
        metrics |= _named(means(given, bought), "{}.purchase") | _named(means(popular, bought), "baseline_{}.purchase")
    return Evaluation(metrics, len(asked))


def means(answers: Sequence[Sequence[str]], wanted: Sequence[Wanted]) -> dict[str, float]:
    """Recall and NDCG at each depth, over the rows that want anything; an empty mapping where none does.

    Recall is the share of a row's wanted items among its best k; NDCG discounts the place p by log2(p + 1) and
    divides by what the best order would have.
    """
    pairs = [(answer, want) for answer, want in zip(answers, wanted, strict=True) if want]
    if not pairs:
        return {}
    hits = np.array([[item in want for item in _filled(answer)] for answer, want in pairs], np.float64)
    counts = np.array([len(want) for _, want in pairs])
    discounts = 1 / np.log2(np.arange(2, MOST + 2))
    found = {}
    for depth in DEPTHS:
        best = np.cumsum(discounts)[np.minimum(counts, depth) - 1]
        found[f"recall@{depth}"] = float((hits[:, :depth].sum(axis=1) / counts).mean())
        found[f"ndcg@{depth}"] = float((hits[:, :depth] @ discounts[:depth] / best).mean())
    return found


def most_popular(query: Query, items: Sequence[str]) -> list[str]:
    """The most popular items that are not in the history."""
    met = set(query.history)
    return [item for item in items[: MOST + len(met)] if item not in met][:MOST]


def _filled(answer: Sequence[str]) -> list[str]:
    return [*answer[:MOST], *[""] * (MOST - len(answer))]


def _named(metrics: Mapping[str, float], form: str) -> dict[str, float]:
    return {form.format(name): value for name, value in metrics.items()}
