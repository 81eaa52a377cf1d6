"""Runs: which rows are computed together, how they are padded, and that they come back in order."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.runtime.made import IDS, WORDS, artifact, double, words

from mercato_plugin import BatchPolicy, GraphSpec, ModelSpec, Ragged, Tensor
from mercato_server.errors import LoadFailed
from mercato_server.runtime.runs import GraphRunner, cut, pad
from mercato_server.runtime.session import Session, open_session

SPEC = ModelSpec(name="shop.words", inputs={"ids": IDS}, outputs={"size": Tensor("int64")}, graph=WORDS)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Session]:
    made = artifact(tmp_path_factory.mktemp("words"), SPEC, {"words": words(), "double": double()})
    return {name: open_session(made.graph(name)) for name in ("words", "double")}


def runner(sessions: dict[str, Session], **policy: Any) -> GraphRunner:
    x = Tensor("float32", ("batch", 2))
    specs = {"words": WORDS, "double": GraphSpec(inputs={"x": x}, outputs={"y": x})}
    return GraphRunner(sessions, specs, BatchPolicy(**policy))


@settings(derandomize=True, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=50),
    run_rows=st.none() | st.integers(1, 8),
    run_cells=st.none() | st.integers(1, 100),
    max_padding=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]),
)
def test_runs_hold_every_row_once_within_their_bounds(
    lengths: list[int], run_rows: int | None, run_cells: int | None, max_padding: float
) -> None:
    sizes = np.array(lengths, np.int64)
    runs = cut(sizes, BatchPolicy(run_rows=run_rows, run_cells=run_cells, max_padding=max_padding))

    assert sorted(np.concatenate(runs).tolist()) == list(range(len(lengths)))
    for run in runs:
        assert 1 <= len(run) <= (run_rows or len(lengths))
        assert len(run) == 1 or len(run) * max(1, sizes[run].max()) <= (run_cells or np.inf)
        cells = len(run) * sizes[run].max()
        assert cells == 0 or 1 - sizes[run].sum() / cells <= max_padding + 1e-9


def test_equal_lengths_are_one_run_in_their_own_order() -> None:
    [run] = cut(np.full(5, 3), BatchPolicy(max_padding=0.0))

    assert run.tolist() == [0, 1, 2, 3, 4]


def test_a_run_takes_as_many_rows_as_its_cells_allow() -> None:
    runs = cut(np.array([3, 9, 2, 4, 1, 3]), BatchPolicy(run_cells=8, max_padding=0.5))

    assert [run.tolist() for run in runs] == [[1], [3, 0], [5, 2], [4]]


def test_chosen_rows_are_padded_to_the_longest_of_them() -> None:
    ragged = Ragged.from_rows([[1], [2, 3, 4], [5, 6]], "int64")

    assert pad(ragged, np.array([2, 0]), -1).tolist() == [[5, 6], [1, -1]]
    assert pad(ragged, np.array([1]), -1).tolist() == [[2, 3, 4]]


def test_rows_without_any_value_still_have_one_cell() -> None:
    ragged = Ragged(np.zeros(0, np.float32), np.zeros(2, np.int64))

    assert pad(ragged, np.array([0, 1]), 9).tolist() == [[9], [9]]


def test_inner_axes_are_kept() -> None:
    ragged = Ragged(np.arange(6, dtype=np.float32).reshape(3, 2), np.array([1, 2]))

    assert pad(ragged, np.array([0, 1]), 0).tolist() == [[[0, 1], [0, 0]], [[2, 3], [4, 5]]]


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(1, 1000), max_size=9), min_size=1, max_size=12), st.none() | st.integers(1, 4))
def test_rows_come_back_in_order_whatever_the_runs(
    sessions: dict[str, Session], rows: list[list[int]], run_rows: int | None
) -> None:
    graphs = runner(sessions, run_rows=run_rows)
    outputs = graphs.run({"ids": Ragged.from_rows([np.array(row, np.int64) for row in rows], "int64")}, "words")

    assert outputs["size"].tolist() == [len(row) for row in rows]
    for got, row in zip(outputs["copy"], rows, strict=True):
        assert got[: len(row)].tolist() == row
    assert 0 <= graphs.padding < 1


def test_rows_of_different_length_need_an_input_declared_ragged() -> None:
    plain = GraphSpec(inputs={"ids": replace(IDS, ragged=False)}, outputs={"size": Tensor("int64")})
    graphs = GraphRunner({}, {"words": plain}, BatchPolicy())

    with pytest.raises(ValueError, match="graph 'words': input 'ids' got a Ragged.*write ragged=True"):
        graphs.run({"ids": Ragged.from_rows([[1], [2, 3]], "int64")}, "words")


def test_ragged_inputs_of_one_run_have_the_same_lengths() -> None:
    both = GraphSpec(inputs={"ids": IDS, "marks": IDS}, outputs={"size": Tensor("int64")})
    inputs = {"ids": Ragged.from_rows([[1], [2, 3]], "int64"), "marks": Ragged.from_rows([[1, 2], [3]], "int64")}

    with pytest.raises(ValueError, match="graph 'words': the rows of 'marks' differ in length from those of 'ids'"):
        GraphRunner({}, {"words": both}, BatchPolicy()).run(inputs, "words")


def test_padding_is_the_share_of_computed_cells(sessions: dict[str, Session]) -> None:
    graphs = runner(sessions, max_padding=0.5)
    outputs = graphs.run({"ids": Ragged.from_rows([[1, 2, 3, 4], [5, 6]], "int64")}, "words")

    assert graphs.padding == pytest.approx(0.25)
    assert outputs["copy"].tolist() == [[1, 2, 3, 4], [5, 6, 7, 7]]
    assert graphs.compute_ns > 0


def test_lengths_that_the_plugin_gives_are_its_own(sessions: dict[str, Session]) -> None:
    given_ones = np.array([9, 8, 7])
    ids = Ragged.from_rows([[1], [1, 2, 3], [1, 2]], "int64")
    outputs = runner(sessions, max_padding=0.0).run({"ids": ids, "lengths": given_ones}, "words")

    assert outputs["size"].tolist() == [9, 8, 7]


@pytest.mark.parametrize("run_rows", [None, 1, 2, 3, 7])
def test_rectangular_rows_are_cut_by_run_rows_alone(sessions: dict[str, Session], run_rows: int | None) -> None:
    x = np.arange(14, dtype=np.float32).reshape(7, 2)
    x.flags.writeable = False

    assert runner(sessions, run_rows=run_rows).run({"x": x}, "double")["y"].tolist() == (x + x).tolist()


def test_a_file_that_is_no_graph_is_a_failed_load_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(LoadFailed, match="graph 'model' cannot be loaded on cpu") as caught:
        open_session(tmp_path / "model.onnx")
    assert str(tmp_path) not in str(caught.value)
