"""Ranking: candidates of each kind of vectors, their exact scores, and the weighted sum of the kinds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Scores = npt.NDArray[np.float32]

FEWEST, OVER = 100, 5
"""Of each kind so many candidates are looked at, or so many times `k` where that is more."""


class Nearest(Protocol):
    """What is asked of an index; faiss is imported where it is made."""

    def nearest(self, queries: Scores, count: int) -> Array:
        """Rows of the `count` vectors found nearest, int64 of shape (queries, count); -1 where fewer were found."""


@dataclass(frozen=True)
class Side:
    """The products' vectors of one kind, float32 of shape (products, width), and their index."""

    vectors: Scores
    index: Nearest

    def candidates(self, queries: Scores, k: int) -> Array:
        """Products that may be among the best `k` of each query, int64 of shape (queries, candidates); -1 for none."""
        return self.index.nearest(queries, min(len(self.vectors), max(FEWEST, OVER * k)))

    def scores(self, query: Scores, products: Array) -> Scores:
        """Dot products with one query; the same for a product whichever others are asked for."""
        scores: Scores = np.einsum("pw,w->p", self.vectors[products], query)
        return scores


@dataclass(frozen=True)
class Query:
    """Unit vectors of one kind, (rows, width), for the rows of a batch that have any."""

    vectors: Scores
    rows: Array


@dataclass(frozen=True)
class Ranked:
    """Products, int64 of shape (rows, k), best first, and their scores; -1 and 0 behind the last."""

    products: Array
    scores: Scores


def ranked(sides: Mapping[str, Side], queries: Mapping[str, Query], weights: Mapping[str, Array], k: int) -> Ranked:
    """The best `k` products of every row of a batch; `weights` by kind, of shape (rows,).

    A row's score is the weighted sum over the kinds that it has. Of equal scores the earlier product is better.
    """
    count = len(next(iter(weights.values())))
    found = Ranked(np.full((count, k), -1, np.int64), np.zeros((count, k), np.float32))
    asked: list[list[tuple[str, Scores]]] = [[] for _ in range(count)]
    candidates: list[list[Array]] = [[] for _ in range(count)]
    for kind, query in queries.items():
        nearest = sides[kind].candidates(query.vectors, k) if len(query.rows) else ()
        for row, vector, products in zip(query.rows.tolist(), query.vectors, nearest, strict=True):
            asked[row].append((kind, vector))
            candidates[row].append(products)
    for row, kinds in enumerate(asked):
        if kinds:
            known = np.unique(np.concatenate(candidates[row]))
            products = known[known >= 0]
            scores = [weights[kind][row] * sides[kind].scores(vector, products) for kind, vector in kinds]
            _place(found, row, products, sum(scores[1:], scores[0]))
    return found


def _place(found: Ranked, row: int, products: Array, scores: Scores) -> None:
    """Products come in ascending order, which a stable sort keeps among equal scores."""
    best = np.argsort(-scores, kind="stable")[: found.products.shape[1]]
    found.products[row, : len(best)] = products[best]
    found.scores[row, : len(best)] = scores[best]
