"""Ranking and the index, held against comparing every vector in numpy."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from mercato_plugin import FolderError
from mercato_search.facts import FLAT, INVERTED, IndexFacts
from mercato_search.index import Index, read_index, read_vectors, to_bytes
from mercato_search.indexing import LEAST_RECALL, fitted_index
from mercato_search.ranking import Query, Scores, Side, ranked

WIDTH = 16


def units(count: int, seed: int) -> Scores:
    vectors = np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)
    unit: Scores = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def side(vectors: Scores) -> Side:
    return fitted_index(vectors, [vectors[:5]], len(vectors), 1, "test").side


def all_compared(scores: Any, k: int) -> list[list[int]]:
    best: list[list[int]] = np.argsort(-scores, axis=1, kind="stable")[:, :k].tolist()
    return best


@pytest.mark.parametrize("k", [1, 7, 100])
def test_one_kind_is_ranked_as_if_all_were_compared(k: int) -> None:
    vectors, queries = units(500, 1), units(9, 2)
    best = ranked({"text": side(vectors)}, {"text": Query(queries, np.arange(9))}, {"text": np.ones(9, np.float32)}, k)
    assert best.products.tolist() == all_compared(queries @ vectors.T, k)
    np.testing.assert_allclose(best.scores, -np.sort(-queries @ vectors.T, axis=1)[:, :k], atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_two_kinds_are_summed_by_their_weights(weight: float) -> None:
    texts, pictures, asked, seen = (units(n, seed) for n, seed in ((90, 1), (90, 2), (5, 3), (5, 4)))
    weights = {"text": np.full(5, 1 - weight, np.float32), "image": np.full(5, weight, np.float32)}
    queries = {"text": Query(asked, np.arange(5)), "image": Query(seen, np.arange(5))}
    best = ranked({"text": side(texts), "image": side(pictures)}, queries, weights, 10)
    expected = (1 - weight) * asked @ texts.T + weight * seen @ pictures.T
    assert best.products.tolist() == all_compared(expected, 10)


def test_equal_scores_are_in_the_order_of_the_products_and_what_is_lacking_is_told() -> None:
    vectors = np.repeat(units(2, 1), 3, axis=0)
    query = Query(vectors[:1], np.array([1]))
    best = ranked({"text": side(vectors)}, {"text": query}, {"text": np.ones(2, np.float32)}, 8)
    assert best.products.tolist() == [[-1] * 8, [0, 1, 2, 3, 4, 5, -1, -1]]
    assert best.scores[0].tolist() == [0.0] * 8 and best.scores[1, 6:].tolist() == [0.0, 0.0]


def test_a_row_has_the_same_answer_alone_and_among_others() -> None:
    own, queries = side(units(400, 1)), units(40, 2)
    whole = ranked({"text": own}, {"text": Query(queries, np.arange(40))}, {"text": np.ones(40, np.float32)}, 10)
    for row in range(40):
        one = {"text": Query(queries[row : row + 1], np.arange(1))}
        alone = ranked({"text": own}, one, {"text": np.ones(1, np.float32)}, 10)
        assert alone.products[0].tolist() == whole.products[row].tolist()
        assert alone.scores[0].tobytes() == whole.scores[row].tobytes()


def test_an_inverted_index_looks_at_as_few_lists_as_find_what_is_wanted() -> None:
    vectors = units(3000, 1)
    fitted = fitted_index(vectors, [units(200, 2), vectors[:50]], 1000, 1, "test")
    assert fitted.facts.kind == INVERTED and 1 < fitted.facts.probes < fitted.facts.lists == 219
    assert LEAST_RECALL <= fitted.recall < 1.0


def test_an_index_reads_back_as_it_was_written(tmp_path: Path) -> None:
    fitted = fitted_index(units(300, 1), [units(20, 2)], 100, 1, "test")
    assert isinstance(fitted.side.index, Index)
    (tmp_path / "text.index").write_bytes(to_bytes(fitted.side.index))
    again = read_index(tmp_path / "text.index", fitted.facts, 300, WIDTH)
    queries = units(20, 3)
    assert again.nearest(queries, 10).tolist() == fitted.side.index.nearest(queries, 10).tolist()


@pytest.mark.parametrize(
    ("facts", "rows", "width", "why"),
    [
        (IndexFacts(FLAT), 299, WIDTH, "holds 300 vectors of 16 in 0 lists, expected 299 of 16 in 0"),
        (IndexFacts(FLAT), 300, 8, "expected 300 of 8"),
        (IndexFacts(INVERTED, 4, 2), 300, WIDTH, "expected 300 of 16 in 4"),
    ],
)
def test_an_index_that_is_not_as_the_facts_say_is_refused(
    facts: IndexFacts, rows: int, width: int, why: str, tmp_path: Path
) -> None:
    inner = faiss.IndexFlatIP(WIDTH)
    inner.add(units(300, 1))
    (tmp_path / "text.index").write_bytes(to_bytes(Index(inner)))
    with pytest.raises(FolderError, match=f"search.products: text.index: .*{why}.*; train the model again"):
        read_index(tmp_path / "text.index", facts, rows, width)


@pytest.mark.parametrize("content", [b"", b"IxFI", b"not an index at all"])
def test_bytes_that_are_no_index_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "text.index").write_bytes(content)
    with pytest.raises(FolderError, match="text.index: is missing or no index"):
        read_index(tmp_path / "text.index", IndexFacts(FLAT), 300, WIDTH)


def test_vectors_of_another_shape_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", units(3, 1))
    with pytest.raises(FolderError, match=r"text.npy: holds float32 of shape \(3, 16\), expected float32 of shape"):
        read_vectors(tmp_path / "text.npy", 4, WIDTH)
    (tmp_path / "text.npy").write_bytes(b"x")
    with pytest.raises(FolderError, match="text.npy: is missing or holds no array"):
        read_vectors(tmp_path / "text.npy", 4, WIDTH)
