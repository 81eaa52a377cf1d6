"""Parts of a table: a row's part depends on the row alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercato_training import Data, DataError, Table

DATA = Data(path=None)  # type: ignore[arg-type]


def table(words: list[str]) -> Table:
    values = np.array(words, object)
    return Table("words", {"word": values, "size": np.array([len(word) for word in words], np.float64)}, len(words))


WORDS = [f"word {number}" for number in range(400)]


def test_shares_are_about_a_fifth_and_a_tenth() -> None:
    parts = DATA.parts(table(WORDS))
    assert 60 <= parts.test.rows <= 100 and 25 <= parts.validation.rows <= 55
    assert parts.train.rows + parts.validation.rows + parts.test.rows == 400


@given(st.permutations(WORDS), st.lists(st.text(min_size=1), max_size=30))
def test_neither_order_nor_other_rows_move_a_row(order: list[str], more: list[str]) -> None:
    known = set(DATA.parts(table(WORDS), by="word").test["word"])
    found = set(DATA.parts(table([*order, *more]), by="word").test["word"])
    assert found - set(more) == known - set(more)


def test_equal_texts_stand_in_one_part() -> None:
    parts = DATA.parts(table(WORDS * 3), by="word")
    assert not set(parts.train["word"]) & set(parts.test["word"])
    assert not set(parts.train["word"]) & set(parts.validation["word"])


def test_the_held_out_rows_are_the_test_part_or_all() -> None:
    found = table(WORDS)
    assert DATA.held_out(found, by="word")["word"].tolist() == DATA.parts(found, by="word").test["word"].tolist()
    assert Data(path=None, is_whole=True).held_out(found) is found  # type: ignore[arg-type]


def test_by_time_the_latest_are_held_out_and_no_time_is_split() -> None:
    weeks = np.repeat(np.arange("2026-01", "2026-11", dtype="datetime64[M]"), 7).astype("datetime64[us]")
    parts = DATA.parts(Table("sales", {"week": weeks}, len(weeks)), after="week")
    assert parts.train["week"].max() < parts.validation["week"].min()
    assert parts.validation["week"].max() < parts.test["week"].min()
    assert (parts.train.rows, parts.validation.rows, parts.test.rows) == (49, 7, 14)


def test_by_time_only_times_are_taken() -> None:
    for values in (np.array(["10", "9", "11"] * 20, object), np.array(["2026-01-01", "NaT"] * 20, "datetime64[us]")):
        with pytest.raises(DataError, match="column 'week' has values that are no time, so none are the latest"):
            DATA.parts(Table("sales", {"week": values}, len(values)), after="week")


def test_a_table_too_small_to_split_is_refused() -> None:
    need = "equal rows count once; bring 50 different ones or more"
    with pytest.raises(DataError, match=f"words: of 2 rows none is left for [a-z]+; {need}"):
        DATA.parts(table(["a", "b"]))
    sales = Table("sales", {"week": np.array(["2026-01-01"], "datetime64[us]")}, 1)
    with pytest.raises(DataError, match="sales: of 1 row none is left for fitting; those of one week stand together"):
        DATA.parts(sales, after="week")
