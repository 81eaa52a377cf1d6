"""How good answers are: the share of the wanted products among the first, and how early they come, beside TF-IDF."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer

from mercato_reviews.analyzer import ANALYZERS, fitting
from mercato_search.catalogue import Queries
from mercato_training import Evaluation

Array = npt.NDArray[Any]
Ask = Callable[[Mapping[str, Sequence[Any]]], Array]
"""Inputs by name to the first products of every row, rows of the catalogue, -1 for none, shape (rows, FIRST)."""

FIRST = 10


def judged(queries: Queries, products: Sequence[str], ask: Ask, has_pictures: bool) -> Evaluation:
    """Recall and NDCG of the first 10 by what is given; of queries with both also by either alone.

    The baseline is TF-IDF on the texts of the `products`. Names of products in place of queries are told as `title`.
    """
    baseline = Baseline(products)
    metrics, rows = dict[str, float](), 0
    for name, places in queries.groups.items():
        asked = queries.take(places)
        if name == "image" and not has_pictures:
            continue
        told = "title" if queries.is_titles else name
        rows += len(places)
        if name != "image":
            metrics |= _scores(baseline.first(asked.texts), asked, told, "baseline_")
        for prefix, inputs in _ways(asked, name, has_pictures).items():
            metrics |= _scores(ask(inputs), asked, told, prefix)
    return Evaluation(metrics, rows)


class Baseline:
    """The cosine of TF-IDF vectors, of words or characters as the language asks."""

    def __init__(self, products: Sequence[str]) -> None:
        self._counted = TfidfVectorizer(analyzer=ANALYZERS[fitting(products)], sublinear_tf=True)
        self._products: Any = self._counted.fit_transform(products)

    def first(self, texts: Sequence[str]) -> Array:
        """The first products of each text; those that share no term with it are none."""
        scores = (self._counted.transform(texts) @ self._products.T).toarray()
        best = np.argsort(-scores, axis=1, kind="stable")[:, :FIRST]
        return np.where(np.take_along_axis(scores, best, axis=1) > 0, best, -1)


def recall_and_ndcg(found: Array, answers: Sequence[frozenset[int]]) -> tuple[float, float]:
    """Means over queries with at least one answer; of more than 10 answers any 10 are all."""
    hits = np.array([[product in wanted for product in row] for row, wanted in zip(found, answers, strict=True)])
    most = np.array([min(FIRST, len(wanted)) for wanted in answers])
    gains = 1 / np.log2(np.arange(2, 2 + FIRST))
    ideal = np.cumsum(gains)[most - 1]
    return float((hits.sum(axis=1) / most).mean()), float((hits @ gains[: hits.shape[1]] / ideal).mean())


def _ways(asked: Queries, name: str, has_pictures: bool) -> dict[str, dict[str, Sequence[Any]]]:
    """Inputs by the prefix of their metrics."""
    words: dict[str, Sequence[Any]] = {"text": asked.texts}
    pictures: dict[str, Sequence[Any]] = {"image": asked.pictures}
    if name != "both":
        return {"": words if name == "text" else pictures}
    alone = {"text_alone_": words}
    return {"": words | pictures, **alone, "image_alone_": pictures} if has_pictures else alone


def _scores(found: Array, asked: Queries, name: str, prefix: str) -> dict[str, float]:
    recall, ndcg = recall_and_ndcg(found, asked.answers)
    return {f"{prefix}recall@{FIRST}.{name}": recall, f"{prefix}ndcg@{FIRST}.{name}": ndcg}
