"""Top-k answers: the rows that sorting would put first, whatever their type, ties and NaN."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mercato_plugin import TopK
from mercato_plugin.fields import NUMERIC
from mercato_server.contract.batch import Array
from mercato_server.contract.fields import numpy_dtype
from mercato_server.serving.ranking import best

TOP_K = TopK(by="score", k="k", index="place")
DTYPES = [name for name in NUMERIC if name != "bool"]


def expected(scores: Array, k: int) -> list[int]:
    """Places as Python sorts them."""
    values = [score.item() if scores.dtype.kind in "iu" else float(score) for score in scores.ravel()]
    return sorted(range(len(values)), key=lambda place: (math.isnan(values[place]), -values[place], place))[:k]


def ranked(scores: Array, k: int) -> list[int]:
    places = best({"score": scores}, TOP_K, k)["place"]
    assert places.dtype == np.int64
    found: list[int] = places.tolist()
    return found


@st.composite
def scores(draw: st.DrawFn, dtype: str) -> Array:
    """Few different values, so that there are ties; few rows or many, as a column or not."""
    made = numpy_dtype(dtype)
    extremes: list[Any] = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.5]
    if made.kind in "iu":
        extremes = [np.iinfo(made).min, np.iinfo(made).max, 0, 1]
    values = draw(st.lists(st.sampled_from(extremes) | st.integers(0, 9), min_size=1, max_size=40))
    array = np.resize(np.array(values, made), draw(st.sampled_from([len(values), 511, 512, 2000])))
    return array.reshape(-1, 1) if draw(st.booleans()) else array


@pytest.mark.parametrize("dtype", DTYPES)
@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(data=st.data())
def test_the_best_rows_are_those_that_sorting_puts_first(dtype: str, data: st.DataObject) -> None:
    given_scores = data.draw(scores(dtype))
    k = data.draw(st.integers(1, 20) | st.integers(1, len(given_scores) + 5))

    assert ranked(given_scores, k) == expected(given_scores, k)


@pytest.mark.parametrize("rows", [6, 600])
def test_where_all_are_nan_the_first_rows_are_answered(rows: int) -> None:
    assert ranked(np.full(rows, np.nan), 3) == [0, 1, 2]


@pytest.mark.parametrize("rows", [7, 4096])
def test_random_scores_are_sorted(rows: int) -> None:
    drawn = np.random.default_rng(7).standard_normal(rows).astype(np.float32)

    for k in (1, 5, rows // 4, rows, rows + 1):
        assert ranked(drawn, k) == expected(drawn, k)


def test_every_output_follows_its_row() -> None:
    outputs = {
        "score": np.array([[0.25], [0.75], [0.5]], np.float32),
        "title": np.array(["hat", "shoe", "coat"], object),
        "vector": np.arange(6).reshape(3, 2),
    }

    answer = best(outputs, TOP_K, 2)

    assert list(answer) == ["score", "title", "vector", "place"]
    assert {name: array.tolist() for name, array in answer.items()} == {
        "score": [[0.75], [0.5]], "title": ["shoe", "coat"], "vector": [[2, 3], [4, 5]], "place": [1, 2],
    }  # fmt: skip
    assert outputs["title"].tolist() == ["hat", "shoe", "coat"]
