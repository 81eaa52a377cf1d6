"""Training: an index of vectors that finds what comparing all of them would find, or none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from mercato_search.facts import FLAT, INVERTED, IndexFacts
from mercato_search.index import Index
from mercato_search.products import MOST
from mercato_search.ranking import OVER, Query, Side, ranked
from mercato_training import TrainingError

Array = npt.NDArray[Any]

LEAST_RECALL = 0.98
"""Of the best 10, what an index must find."""

FIRST = 10
PER_LIST = 64
"""Vectors for each list that its centre is fitted to, at most."""


@dataclass(frozen=True)
class Fitted:
    """An index with its facts, and the share of the true best 10 that it finds."""

    side: Side
    facts: IndexFacts
    recall: float


def fitted_index(vectors: Array, queries: Sequence[Array], flat: int, threads: int, name: str) -> Fitted:
    """An index of vectors, (products, width), tuned on groups of queries, each (queries, width). Raises TrainingError.

    Up to `flat` products every vector is compared; above, as few lists are looked at as find `LEAST_RECALL` in the
    hardest group, but no fewer than hold the candidates of the longest answer on average.
    """
    faiss.omp_set_num_threads(threads)
    tried = [(group, brute_force(vectors, group, FIRST)) for group in queries]
    if len(vectors) <= flat:
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        side = Side(vectors, Index(index))
        return Fitted(side, IndexFacts(FLAT), _least_recall(side, tried))
    lists = int(4 * np.sqrt(len(vectors)))
    searched = Index(_inverted(vectors, lists))
    side = Side(vectors, searched)
    probes = min(lists, math.ceil(OVER * MOST * lists / len(vectors)))
    searched.look_at(probes)
    while (recall := _least_recall(side, tried)) < LEAST_RECALL:
        if probes == lists:
            raise TrainingError(
                f"the index of {name} finds {recall:.1%} of the best {FIRST} with all of its {lists} lists, expected "
                f"{LEAST_RECALL:.0%}; --set flat={len(vectors)} compares every vector"
            )
        probes = min(lists, math.ceil(GROWTH * probes))
        searched.look_at(probes)
    return Fitted(side, IndexFacts(INVERTED, lists, probes), recall)


GROWTH = 1.5
"""Of the lists that are looked at, until they are enough."""


def brute_force(vectors: Array, queries: Array, count: int) -> Array:
    """The score of the last of the best `count` products of each query, shape (queries,): all are compared."""
    place = max(0, len(vectors) - count)
    starts = range(0, len(queries), AT_ONCE)
    parts = [np.partition(queries[start : start + AT_ONCE] @ vectors.T, place, axis=1)[:, place] for start in starts]
    return np.concatenate(parts)


AT_ONCE = 64


def recall_of(side: Side, queries: Array, least: Array) -> float:
    """The share of the first products that score as much as the last of the best does, `least` of each query."""
    rows = np.arange(len(queries))
    count = min(FIRST, len(side.vectors))
    found = ranked({"": side}, {"": Query(queries, rows)}, {"": np.ones(len(rows), np.float32)}, count)
    return float((found.scores >= least[:, None] - EQUAL).mean())


EQUAL = 1e-6
"""Scores that differ by less are equal in float32."""


def _least_recall(side: Side, tried: Sequence[tuple[Array, Array]]) -> float:
    return min(recall_of(side, queries, least) for queries, least in tried)


def _inverted(vectors: Array, lists: int) -> Any:
    """Lists of the vectors nearest to each centre, in 8 bits a number: candidates alone are taken from them."""
    index: Any = faiss.index_factory(vectors.shape[1], f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1  # a small catalogue is no reason to warn on standard error
    rows = np.random.default_rng(0).permutation(len(vectors))[: PER_LIST * lists]
    index.train(np.ascontiguousarray(vectors[np.sort(rows)]))
    index.add(vectors)
    return index
