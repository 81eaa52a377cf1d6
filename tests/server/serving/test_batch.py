"""Joining requests and splitting results: every row of every field keeps its place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mercato_server.contract.batch import BatchResult
from mercato_server.contract.receipt import ReleaseReason
from mercato_server.serving.batch import PerRow, join, split
from mercato_server.serving.request import Answer, Request


def ragged(rows: list[list[int]], **facts: object) -> Request:
    """A request with one ragged input of int64, padded with -1."""
    lengths = np.array([len(row) for row in rows], np.int64)
    padded = np.full((len(rows), max(1, lengths.max())), -1, np.int64)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return Request({"ids": padded}, len(rows), 1.0, lengths={"ids": lengths}, **facts)  # type: ignore[arg-type]


def test_one_request_goes_through_without_a_copy() -> None:
    x = np.arange(6.0).reshape(2, 3)
    joined = join([Request({"x": x}, 2, 3.5, parameters={"k": 10})])

    assert joined.inputs["x"] is x
    assert (joined.rows, joined.deadline, joined.parameters) == (2, 3.5, {"k": 10})


def test_rows_stand_in_the_order_of_their_requests() -> None:
    requests = [
        Request({"x": np.full((rows, 2), rows), "t": np.array([str(rows)] * rows, object)}, rows, float(rows))
        for rows in (3, 1, 2)
    ]
    joined = join(requests)

    assert joined.inputs["x"][:, 0].tolist() == [3, 3, 3, 1, 2, 2]
    assert joined.inputs["t"].tolist() == ["3", "3", "3", "1", "2", "2"]
    assert (joined.rows, joined.deadline) == (6, 1.0)
    assert not joined.inputs["x"].flags.writeable


@settings(derandomize=True, deadline=None)
@given(st.lists(st.lists(st.lists(st.integers(0, 99), max_size=5), min_size=1, max_size=3), min_size=1, max_size=4))
def test_ragged_rows_keep_their_values_and_lengths(requests: list[list[list[int]]]) -> None:
    joined = join([ragged(rows) for rows in requests])

    rows = [row for request in requests for row in request]
    assert joined.lengths["ids"].tolist() == [len(row) for row in rows]
    for got, length, row in zip(joined.inputs["ids"], joined.lengths["ids"], rows, strict=True):
        assert got[:length].tolist() == row


def test_ragged_rows_with_inner_axes_are_widened_along_the_first() -> None:
    narrow = Request({"v": np.ones((1, 2, 3))}, 1, 1.0, lengths={"v": np.array([2])})
    wide = Request({"v": np.full((2, 4, 3), 2.0)}, 2, 1.0, lengths={"v": np.array([4, 1])})
    joined = join([narrow, wide])

    assert joined.inputs["v"].shape == (3, 4, 3)
    assert joined.inputs["v"][0, :2].tolist() == np.ones((2, 3)).tolist()
    assert joined.lengths["v"].tolist() == [2, 4, 1]


def test_presence_masks_tell_the_real_rows() -> None:
    requests = [
        Request({"x": np.zeros((rows, 1))}, rows, 1.0, present={"x": np.full(rows, present)})
        for rows, present in [(2, True), (1, False), (1, True)]
    ]

    assert join(requests).present["x"].tolist() == [True, True, False, True]


def test_shared_inputs_reach_every_row_of_their_own_request() -> None:
    requests = [
        Request({"user": np.broadcast_to(np.array([user, user]), (rows, 2))}, rows, 1.0)
        for user, rows in [(7.0, 3), (8.0, 1)]
    ]

    assert join(requests).inputs["user"].tolist() == [[7, 7]] * 3 + [[8, 8]]


@pytest.mark.parametrize("values", [(1, 2), (0.5, 1.5), (True, False), ("near", "far")])
def test_per_row_parameters_are_arrays_of_the_rows(values: tuple[float | str, float | str]) -> None:
    first, second = (
        Request({"x": np.zeros((rows, 1))}, rows, 1.0, parameters={"p": PerRow(value), "k": 3})
        for rows, value in zip((2, 1), values, strict=True)
    )

    assert join([first, second]).parameters["p"].tolist() == [values[0], values[0], values[1]]
    assert join([second]).parameters["p"].tolist() == [values[1]]
    assert join([first, second]).parameters["k"] == 3


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_split_gives_everybody_what_they_put_in(rows: list[int]) -> None:
    requests = [Request({"x": np.full((n, 2), place)}, n, 1.0) for place, n in enumerate(rows)]
    joined = join(requests)
    answers = split(BatchResult({"y": joined.inputs["x"]}), requests, [0] * len(rows), ReleaseReason.JOINED, "m")

    for place, (answer, n) in enumerate(zip(answers, rows, strict=True)):
        assert isinstance(answer, Answer)
        assert answer.outputs["y"].tolist() == [[place, place]] * n
        assert answer.receipt.batch_rows == sum(rows)
