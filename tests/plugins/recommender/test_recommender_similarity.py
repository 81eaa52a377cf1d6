"""Similar items, block by block, equal to the cosine with shrinkage over the whole matrix."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from mercato_recommender.similarity import matrix, neighbours


def quietly(title: str, items: Iterable[int], total: int) -> Iterable[int]:
    return items


def dense(found: Any, shrinkage: float) -> Any:
    lengths = np.sqrt((found**2).sum(axis=0))
    common = (found > 0).T.astype(float) @ (found > 0)
    similar = found.T @ found / np.outer(lengths, lengths) * common / (common + shrinkage)
    np.fill_diagonal(similar, 0.0)
    return similar


@pytest.mark.parametrize(("most", "shrinkage"), [(5, 0.5), (60, 10.0)])
def test_the_most_similar_items_are_kept(most: int, shrinkage: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mercato_recommender.similarity.BLOCK", 7)
    random = np.random.default_rng(1)
    users, items = random.integers(0, 50, 400), random.integers(0, 40, 400)
    found = matrix(users, items, random.choice([1.0, 1.5, 2.0], 400), (50, 40))
    near, values = neighbours(found, most=most, shrinkage=shrinkage, each=quietly)
    similar = dense(found.toarray(), shrinkage)
    width = min(most, 39)
    assert near.shape == (40, width)
    np.testing.assert_allclose(values.numpy(), -np.sort(-similar, axis=1)[:, :width], rtol=1e-6, atol=1e-9)
    for row in range(40):
        kept = near[row][values[row] > 0]
        np.testing.assert_allclose(similar[row, kept], values[row][values[row] > 0], rtol=1e-6)
        assert (near[row][values[row] == 0] == 40).all()


def test_the_heaviest_of_several_rows_counts_and_rows_of_no_weight_do_not() -> None:
    rows = np.array([(0, 0, 1.0), (0, 0, 2.0), (0, 1, 0.0), (1, 1, 1.0)])
    found = matrix(rows[:, 0].astype(int), rows[:, 1].astype(int), rows[:, 2], (2, 2))
    assert found.toarray().tolist() == [[2.0, 0.0], [0.0, 1.0]]


def test_one_item_has_no_neighbour() -> None:
    near, values = neighbours(
        matrix(np.zeros(1, int), np.zeros(1, int), np.ones(1), (1, 1)), most=3, shrinkage=1.0, each=quietly
    )
    assert (near.tolist(), values.tolist()) == ([[1]], [[0.0]])
