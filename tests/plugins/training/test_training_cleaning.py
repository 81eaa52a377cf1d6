"""Reading and cleaning: what is wrong with a table is said by file, column and row, what is dropped is counted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mercato_training import Column, Data, DataError, TableSchema, TrainingError, UserHash, read_salt
from mercato_training.schema import ROW_KEY

Csv = Callable[..., Path]

REVIEWS = TableSchema(
    "reviews",
    {
        "review_id": Column("id"),
        "text": Column("text"),
        "sentiment": Column("label"),
        "stars": Column("number", optional=True, low=1, high=5),
        "user_id": Column("user", optional=True),
    },
)


def good(**changed: list[Any]) -> dict[str, list[Any]]:
    """Four rows of reviews that nothing is wrong with."""
    columns: dict[str, list[Any]] = {
        "review_id": ["r1", "r2", "r3", "r4"],
        "text": ["fine shoes", "broke at once", "很好", "一般"],
        "sentiment": ["positive", "negative", "positive", "negative"],
        "stars": [5, 1, 4, 2],
    }
    return columns | changed


def read(path: Path, schema: TableSchema = REVIEWS, **more: Any) -> Any:
    return Data(path, **more).table(schema)


def test_columns_come_as_they_are_declared(csv: Csv) -> None:
    table = read(csv(**good()))
    assert table.rows == table.read == 4
    assert table["stars"].dtype == np.float64 and table["text"].tolist() == good()["text"]
    assert "user_id" not in table and not table.dropped


def test_parquet_and_csv_give_the_same(csv: Csv, tmp_path: Path) -> None:
    pq.write_table(pa.table(good()), tmp_path / "reviews.parquet")
    left, right = read(csv(**good())), read(tmp_path / "reviews.parquet")
    assert all(left[name].tolist() == right[name].tolist() for name in left.columns)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"text": None},
            "table.csv: column 'text' is missing; there are review_id, sentiment, stars; --rename THEIRS=text",
        ),
        ({"stars": [5, "four", 4, 2]}, "column 'stars', row 2: got 'four', expected a number"),
        ({"sentiment": ["positive"] * 4}, "column 'sentiment' has 1 label in 4 rows, expected 2 to 1000 different"),
        ({"review_id": ["r1", "r1", "r3", "r4"]}, "rows 1 and 2 have the same review_id 'r1' and different values"),
        ({"text": ["", " ", "", "  "]}, "no row of 4 is left: dropped 4 where text is missing"),
    ],
)
def test_a_table_that_is_wrong_as_a_whole_is_refused(csv: Csv, changed: dict[str, Any], says: str) -> None:
    columns = good(**changed)
    for name in [name for name, values in changed.items() if values is None]:
        del columns[name]
    with pytest.raises(DataError) as refused:
        read(csv(**columns))
    assert says in str(refused.value)


def test_an_empty_file_and_a_folder_without_the_table_are_refused(csv: Csv, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="table.csv has no row"):
        read(csv(**{name: [] for name in good()}))
    with pytest.raises(DataError, match=r"expected reviews.parquet or reviews.csv in the folder .*; neither is there"):
        read(tmp_path)
    with pytest.raises(DataError, match="there is no file or folder 'absent'"):
        read(tmp_path / "absent")
    (tmp_path / "table.txt").touch()
    with pytest.raises(DataError, match="'table.txt' is no data file"):
        read(tmp_path / "table.txt")


@pytest.mark.parametrize("content", [b"PAR1 not parquet", b""])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "reviews.parquet").write_bytes(content)
    with pytest.raises(DataError, match="reviews.parquet cannot be read"):
        read(tmp_path)


def test_rows_are_dropped_and_counted_by_reason(csv: Csv) -> None:
    columns = good(stars=[5, 9, "inf", ""], text=["fine", "ok", "so so", "bad"])
    columns = {name: [*values, values[0]] for name, values in columns.items()}
    table = read(csv(**columns))
    assert table.read == 5
    assert table.dropped == {
        "stars is infinite": 1,
        "stars is outside 1 to 5": 1,
        "review_id is a copy of an earlier row": 1,
    }
    assert table["review_id"].tolist() == ["r1", "r4"] and np.isnan(table["stars"][1])


def test_a_text_that_is_too_long_is_dropped_and_control_characters_are_blanks(csv: Csv) -> None:
    table = read(csv(**good(text=["a" * 8193, "tab\x07bell", "three", "four"])))
    assert table.dropped == {"text is longer than 8192 bytes": 1}
    assert table["text"][0] == "tab bell"


def test_personal_data_is_masked_as_it_is_read(csv: Csv) -> None:
    table = read(csv(**good(text=["write to ann@example.com", "call 13812345678", "很好", "一般"])))
    text = " ".join(table["text"].tolist())
    assert "ann@example.com" not in text and "13812345678" not in text
    assert "<email>" in text and "<phone>" in text


def test_an_error_shows_no_personal_data(csv: Csv) -> None:
    with pytest.raises(DataError) as refused:
        read(csv(**good(stars=[5, "ann@example.com", 4, 2])))
    assert "ann@example.com" not in str(refused.value)


def test_users_are_hashed_under_a_salt(csv: Csv) -> None:
    path = csv(**good(user_id=["u1", "u2", "u1", "u2"]))
    plain, hashed = read(path)["user_id"], read(path, user_hash=UserHash(b"s" * 16))["user_id"]
    assert plain.tolist() == ["u1", "u2", "u1", "u2"]
    assert hashed[0] == hashed[2] != hashed[1] == hashed[3]
    assert "u1" not in hashed[0] and len(hashed[0]) == 32
    assert read(path, user_hash=UserHash(b"t" * 16))["user_id"][0] != hashed[0]
    assert "ssss" not in repr(UserHash(b"s" * 16))


def test_a_salt_that_is_short_or_absent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "salt").write_bytes(b"short\n")
    with pytest.raises(TrainingError, match="'salt' has 5 bytes, expected 16 to 4096 random ones"):
        read_salt(tmp_path / "salt")
    with pytest.raises(TrainingError, match="the salt file 'none' cannot be read"):
        read_salt(tmp_path / "none")
    (tmp_path / "shop").mkdir()
    with pytest.raises(TrainingError, match="--hash-users: 'shop' is a folder, expected a file with a salt"):
        read_salt(tmp_path / "shop")


def test_chinese_columns_and_encodings(csv: Csv) -> None:
    columns = {"编号": ["r1", "r2"], "内容": ["质量很好", "太差了"], "情感": ["好评", "差评"]}
    renames = {"编号": "review_id", "内容": "text", "情感": "sentiment"}
    path = csv(encoding="gb18030", **columns)
    assert read(path, renames=renames, encoding="gb18030")["text"].tolist() == ["质量很好", "太差了"]
    with pytest.raises(DataError, match="name its encoding, for instance --encoding gb18030"):
        read(path, renames=renames)
    with pytest.raises(DataError, match="table.csv cannot be read"):
        read(path, renames=renames, encoding="no-such-encoding")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-03-31", "2026-03-31T00:00:00"),
        ("2026/03/31 18:30:05", "2026-03-31T18:30:05"),
        ("2026/3/1", "2026-03-01T00:00:00"),
        ("2026-3-1 9:05", "2026-03-01T09:05:00"),
        ("2026年3月1日", "2026-03-01T00:00:00"),
        ("2026-03", "2026-03-01T00:00:00"),
        ("2026-03-31T18:30:05.25", "2026-03-31T18:30:05.25"),
        ("2026-03-31T18:30:05Z", "2026-03-31T18:30:05"),
        ("2026-03-31 02:30:00+08:00", "2026-03-30T18:30:00"),
        ("2026-03-31T18:30-0530", "2026-04-01T00:00:00"),
    ],
)
def test_times_are_read_from_text(csv: Csv, given: str, expected: str) -> None:
    path = csv(week=[given, "2026-01-01"])
    assert read(path, TableSchema("sales", {"week": Column("time")}))["week"][0] == np.datetime64(expected)


@pytest.mark.parametrize("given", ["soon", "now", "today", "2026-13-01", "2026-02-30", "12", "2026/3-1", "2026-3-1-2"])
def test_a_time_that_is_none_is_told_by_row(csv: Csv, given: str) -> None:
    with pytest.raises(DataError, match=f"column 'week', row 2: got '{given}', expected a time, such as 2026-03-31"):
        read(csv(week=["2026-01-01", given]), TableSchema("sales", {"week": Column("time")}))


def test_whole_numbers_beyond_those_of_float64_are_rounded(tmp_path: Path) -> None:
    path = tmp_path / "sales.parquet"
    pq.write_table(pa.table({"number": [2**60 + 1, None, 3]}), path)
    found = read(path, TableSchema("sales", {"number": Column("number", optional=True)}))["number"]
    assert found[0] == float(2**60) and np.isnan(found[1]) and found[2] == 3


def test_ids_that_are_missing_are_no_copies(csv: Csv) -> None:
    schema = TableSchema("sales", {"sale_id": Column("id", optional=True), "units": Column("number")})
    table = read(csv(sale_id=["a", "", "NA", "a"], units=[1, 2, 3, 1]), schema)
    assert table["sale_id"].tolist() == ["a", None, None]


PHONES = [f"1381234{number:04d}" for number in range(40)]


@pytest.mark.parametrize("end", ["", ".0"])
def test_numbers_that_point_to_people_are_seen(csv: Csv, tmp_path: Path, end: str) -> None:
    path = csv(phone=[f"{phone}{end}" for phone in PHONES], units=range(40), mixed=[*PHONES[:10], *range(30)])
    assert Data(path).kinds("table") == {"phone": "user", "units": "number", "mixed": "number"}
    columns: dict[str, Any] = {"phone": [*map(int, PHONES), None], "card": [4111111111111111] * 41}
    pq.write_table(pa.table(columns | {"rate": pa.array([0.5] * 41)}), tmp_path / "table.parquet")
    kinds = Data(tmp_path / "table.parquet").kinds("table")
    assert kinds == {"phone": "user", "card": "user", "rate": "number"}


def test_a_key_tells_rows_apart_by_what_stands_in_the_file(csv: Csv) -> None:
    path = csv(price=[1, 2, 2, 2], shop=["a", "b", "b", "c"], units=[1, 2, 3, 4])
    keys = [read(path, TableSchema("sales", columns, ("price", "shop")))[ROW_KEY].tolist() for columns in (
        {"units": Column("number")}, {"price": Column("category"), "shop": Column("text")}
    )]  # fmt: skip
    assert keys[0] == keys[1] and keys[0][1] == keys[0][2] and len(set(keys[0])) == 3
    with pytest.raises(DataError, match="column 'size' is missing"):
        read(path, TableSchema("sales", {"units": Column("number")}, ("size",)))


def test_ids_of_people_are_hashed_where_there_are_some(csv: Csv) -> None:
    salted = UserHash(b"s" * 16)
    found = Data(csv(**good(user_id=["u1", "u2", "u1", "u2"])), user_hash=salted)
    found.table(REVIEWS)
    found.check_people()
    assert found.are_people_hashed
    absent = Data(csv(**good()), user_hash=salted)
    with pytest.raises(DataError, match="--hash-users: the data has no column 'user_id' to hash; --rename THEIRS="):
        absent.parts(absent.table(REVIEWS))
    assert not absent.are_people_hashed
    nobody = Data(csv(units=[1, 2]), user_hash=salted)
    with pytest.raises(DataError, match="--hash-users: the model reads no ids of people; leave it out"):
        nobody.parts(nobody.table(TableSchema("sales", {"units": Column("number")})))


def test_kinds_of_columns_are_seen(csv: Csv, tmp_path: Path) -> None:
    path = csv(units=[1, "", 3], shop=["a", "b", "c"], price=["1.5", "2", "NA"])
    assert Data(path).kinds("sales") == {"units": "number", "shop": "category", "price": "number"}
    times = pa.array([0, 1], pa.timestamp("us"))
    pq.write_table(pa.table({"week": times, "is_open": [True, False], "n": [1, 2]}), tmp_path / "sales.parquet")
    assert Data(tmp_path).kinds("sales") == {"week": "time", "is_open": "number", "n": "number"}


def test_pictures_are_found_by_label(tmp_path: Path) -> None:
    for name in ("kettle/b.png", "kettle/a.JPG", "shoe/c.webp", "shoe/note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    images = Data(tmp_path).images()
    assert [path.name for path in images.paths] == ["a.JPG", "b.png", "c.webp"]
    assert images.labels == ("kettle", "kettle", "shoe")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="the folder of label 'empty' has no picture"):
        Data(tmp_path).images()
    with pytest.raises(DataError, match="has 0 folders of labels, expected at least 2"):
        Data(tmp_path / "empty").images()


def test_an_id_may_be_missing_where_it_is_optional(csv: Csv) -> None:
    schema = TableSchema("reviews", {**REVIEWS.columns, "review_id": Column("id", optional=True)})
    assert read(csv(**good(review_id=["", "", "r1", "r2"])), schema).rows == 4


def test_a_label_that_is_not_one_line_is_refused(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text('text,sentiment\nfine,good\nbad,"ba\nd"\n')
    schema = TableSchema("reviews", {"text": Column("text"), "sentiment": Column("label")})
    with pytest.raises(DataError, match=r"column 'sentiment', row 2: got 'ba\\nd', expected a label of one line"):
        read(tmp_path, schema)


def test_a_label_is_no_longer_than_a_metric_s_name_allows(csv: Csv) -> None:
    table = read(csv(**good(sentiment=["positive", "negative", "p" * 120, "n" * 121])))
    assert table.dropped == {"sentiment is longer than 120 bytes": 1}


def test_one_limit_of_labels_stands_in_the_text(csv: Csv) -> None:
    schema = TableSchema("reviews", {"sentiment": Column("label", max_labels=3)})
    with pytest.raises(DataError, match="has 1 label in 1 row, expected 2 to 3 different ones"):
        read(csv(sentiment=["a"]), schema)
    with pytest.raises(DataError, match="has 4 labels in 5 rows, expected 2 to 3 different ones"):
        read(csv(sentiment=list("aabcd")), schema)


PRICES = TableSchema("prices", {"price": Column("number", hint="do this")})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["1.5", "on request"], "column 'price', row 2: got 'on request', expected a number; do this"),
        (["26.59", "26;59"], "row 2: got '26;59', expected a number; do this"),
        (['"26,59"', '"8,00"'], "row 1: got '26,59', expected a number of digits and a point alone, such as 1026.50; "),
        (["€26.59", "€8"], "row 1: got '€26.59', expected a number of digits and a point alone"),
        (['"1,026.50"', "9"], "row 1: got '1,026.50', expected a number of digits and a point alone"),
        (["1", "2e31"], "row 2: got 2e+31, expected a number from -1e+30 to 1e+30; divide the column"),
    ],
)
def test_a_number_that_is_none_is_told_with_what_to_write(csv: Csv, values: list[str], says: str) -> None:
    with pytest.raises(DataError) as refused:
        read(csv(price=values), PRICES)
    assert says in str(refused.value)


def test_a_number_that_is_dropped_is_not_refused(csv: Csv) -> None:
    schema = TableSchema("prices", {"price": Column("number", low=0, high=10)})
    assert read(csv(price=["1", "2e31", "inf"]), schema).rows == 1


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2", "on request", ""], "number"),
        (["1", "a", "b", ""], "category"),
        (["€1", '"1,50"', "1 000", "?"], "number"),
        (["2026-01-01", "2026-01-02"], "category"),
        (["1.2.3", "1.2.4"], "category"),
        (["A1", "A2"], "category"),
        (["", "NA"], "number"),
    ],
)
def test_a_column_is_one_of_numbers_where_half_of_it_looks_like_some(csv: Csv, values: list[str], kind: str) -> None:
    assert Data(csv(price=values)).kinds("prices") == {"price": kind}


@pytest.mark.parametrize("value", ["7", "-5", "2026", "26.59", "today", "now"])
def test_a_number_or_a_word_is_no_time(csv: Csv, value: str) -> None:
    with pytest.raises(DataError, match=f"row 2: got '{value}', expected a time, such as 2026-03-31"):
        read(csv(week=["2026-01-01", value]), TableSchema("sales", {"week": Column("time")}))


def test_a_column_of_numbers_is_no_time(tmp_path: Path) -> None:
    pq.write_table(pa.table({"week": [1.5, 2.5]}), tmp_path / "sales.parquet")
    with pytest.raises(DataError, match="row 1: got '1.5', expected a time"):
        read(tmp_path, TableSchema("sales", {"week": Column("time")}))
