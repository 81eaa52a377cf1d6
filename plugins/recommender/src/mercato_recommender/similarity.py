"""Item-based collaborative filtering: the most similar items of each, in blocks: no full matrix is made."""

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse
import torch

from mercato_recommender.interactions import Indices

BLOCK = 512
"""Items whose similarities to all others are in memory at a time."""

Each = Callable[[str, Iterable[int], int], Iterable[int]]
Floats = npt.NDArray[np.float64]
Best = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]
"""Numbers and similarities of some items' neighbours."""


def matrix(users: Indices, items: Indices, weights: Floats, shape: tuple[int, int]) -> sparse.csc_array:
    """Users by items; of several rows of one user and item the heaviest counts, rows of weight 0 do not."""
    counts = weights > 0
    users, items, weights = users[counts], items[counts], weights[counts]
    order = np.lexsort((-weights, items, users))
    users, items, weights = users[order], items[order], weights[order]
    is_first = np.ones(len(users), bool)
    is_first[1:] = (np.diff(users) != 0) | (np.diff(items) != 0)
    return sparse.csc_array((weights[is_first], (users[is_first], items[is_first])), shape=shape)


def neighbours(
    found: sparse.csc_array, *, most: int, shrinkage: float, each: Each
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `most` most similar items of each, int32, and their similarities, float32, both (items, most).

    The similarity of two items is the cosine of their columns times n / (n + shrinkage), n the users who met both.
    Places without a neighbour hold the number of items and 0.
    """
    items = found.shape[1]
    width = min(most, max(1, items - 1))
    unit, met = _unit_columns(found), _ones(found)
    numbers, values = np.full((items, width), items, np.int32), np.zeros((items, width), np.float32)
    starts = range(0, items, BLOCK)
    for start in each("similar items", starts, len(starts)):
        rows = slice(start, min(start + BLOCK, items))
        cosines, common = _sorted(unit[:, rows].T @ unit), _sorted(met[:, rows].T @ met)
        shrunk = cosines.data * common.data / (common.data + shrinkage)
        _keep(cosines, shrunk, start, (numbers[rows], values[rows]))
    return torch.from_numpy(numbers), torch.from_numpy(values)


def _keep(block: sparse.csr_array, similarity: Floats, start: int, best: Best) -> None:
    """The best of each row of a block, written to its rows of the result; items of equal similarity by number."""
    rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    is_other = block.indices != rows + start
    rows, columns, similarity = rows[is_other], block.indices[is_other], similarity[is_other]
    order = np.lexsort((columns, -similarity, rows))
    rows, columns, similarity = rows[order], columns[order], similarity[order]
    places = np.arange(len(rows)) - np.searchsorted(rows, rows)
    is_kept = places < best[0].shape[1]
    best[0][rows[is_kept], places[is_kept]] = columns[is_kept]
    best[1][rows[is_kept], places[is_kept]] = similarity[is_kept]


def _unit_columns(found: sparse.csc_array) -> sparse.csc_array:
    lengths = np.sqrt(found.multiply(found).sum(axis=0))
    return (found @ sparse.diags_array(1 / np.where(lengths > 0, lengths, 1.0))).tocsc()


def _ones(found: sparse.csc_array) -> sparse.csc_array:
    return sparse.csc_array((np.ones(found.nnz), found.indices, found.indptr), shape=found.shape)


def _sorted(block: sparse.sparray) -> sparse.csr_array:
    """By row and column, so that two blocks with entries at the same places have them in one order."""
    rows = block.tocsr()
    rows.sort_indices()
    return rows
