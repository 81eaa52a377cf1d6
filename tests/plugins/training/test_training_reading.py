"""Reading files: encodings, what parts columns, names of columns; no content of a file stands in an error."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mercato_training import Column, Data, DataError, TableSchema

Csv = Callable[..., Path]

SCHEMA = TableSchema("notes", {"text": Column("text"), "mood": Column("category", optional=True)})
SECRET = "Ann Miller"


def read(path: Path, **more: Any) -> Any:
    return Data(path, **more).table(SCHEMA)


def refused(path: Path, content: bytes, **more: Any) -> str:
    """What is said of a file with this content; nothing that stands in it."""
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path, **more)
    text = str(caught.value)
    assert SECRET not in text and str(path.parent) not in text and text.isprintable()
    return text


def test_a_row_with_too_many_values_is_told_by_number_alone(tmp_path: Path) -> None:
    lines = ["text,mood", "fine,good", '"it was\nso so",', f"broken, and late, says {SECRET},bad,x"]
    text = refused(tmp_path / "notes.csv", "\n".join(lines).encode())
    assert text == (
        "--data: notes.csv cannot be read: row 3: expected 2 columns, got 5; a value that has a comma, a quote or a "
        "line break stands in double quotes"
    )


def test_a_wrong_row_behind_the_first_block_is_found(tmp_path: Path) -> None:
    content = b"text,mood\n" + b"fine,good\n" * 200_000 + f"{SECRET}\n".encode()
    assert "row 200001: expected 2 columns, got 1; " in refused(tmp_path / "notes.csv", content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("text,mood\ncafé,Ann Miller\n".encode("utf-16"), "it is not utf-8 text; name its encoding, for instance"),
        ("text,mood\ncafé,Ann Miller\n".encode("latin-1"), "it is not utf-8 text; name its encoding, for instance"),
        ("text,mood\nAnn Miller,b\n".encode("utf-16-le"), "it is not utf-8 text"),
        (b"text,mood\n" + b"fine,good\n" * 20_000 + "café,Ann Miller\n".encode("latin-1"), "it is not utf-8 text"),
        (bytes(range(256)) * 9 + b"Ann Miller", "it is not utf-8 text"),
        (b"", "it is empty"),
        (b"text,mood\n" + b'"Ann Miller' + b"x" * (3 << 20), "a row has more than 1 MiB; is there a double quote"),
    ],
)
def test_what_is_no_text_or_no_csv_is_said_in_our_words(tmp_path: Path, content: bytes, says: str) -> None:
    assert says in refused(tmp_path / "notes.csv", content)


def test_an_encoding_that_there_is_not_is_told(tmp_path: Path) -> None:
    text = refused(tmp_path / "notes.csv", b"text\nfine\n", encoding="latin-99")
    assert "there is no encoding 'latin-99', expected one such as utf-8, gb18030 or utf-16" in text


def test_utf_16_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("text,mood\n很好,a\n", encoding="utf-16")
    assert read(tmp_path / "notes.csv", encoding="utf-16")["text"].tolist() == ["很好"]


@pytest.mark.parametrize("sign", [";", "\t"])
def test_semicolons_and_tabs_part_columns_too(tmp_path: Path, sign: str) -> None:
    (tmp_path / "notes.csv").write_text(f"text{sign}mood\nfine, really{sign}good\n")
    table = read(tmp_path / "notes.csv")
    assert (table["text"].tolist(), table["mood"].tolist()) == (["fine, really"], ["good"])


def test_a_quoted_name_parts_nothing(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text('text,"mood; or; not"\nfine,good\n')
    assert read(tmp_path / "notes.csv", renames={"mood; or; not": "mood"})["mood"].tolist() == ["good"]


def test_a_damaged_parquet_file_is_said_in_our_words(tmp_path: Path) -> None:
    assert refused(tmp_path / "notes.parquet", b"PAR1 Ann Miller PAR1").endswith("it is no Parquet file, or damaged")


def test_suffixes_have_any_case(tmp_path: Path) -> None:
    (tmp_path / "notes.CSV").write_text("text\nfine\n")
    pq.write_table(pa.table({"text": ["good"]}), tmp_path / "OTHER.PARQUET")
    assert read(tmp_path / "notes.CSV")["text"].tolist() == read(tmp_path)["text"].tolist() == ["fine"]
    assert read(tmp_path / "OTHER.PARQUET")["text"].tolist() == ["good"]


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data: 'null' is neither a file nor a folder"):
        read(Path("/dev/null"))


@pytest.mark.parametrize(
    ("header", "renames", "says"),
    [
        ("text,text", {}, "notes.csv: column text is there twice; give each column a name of its own"),
        ("text,mood", {"foo": "text"}, "--rename foo=text: notes.csv has no column 'foo'; it has text, mood"),
        ("text,body", {"body": "text"}, "--rename: notes.csv would have two columns 'text'; give each another name"),
        ("a,b", {"a": "text", "b": "text"}, "--rename: notes.csv would have two columns 'text'"),
        (" text,my mood", {}, "column 'text' is missing; there are ' text', 'my mood'; --rename THEIRS=text takes"),
        ("ann@example.com,b", {}, "column 'text' is missing; there are <email>, b; "),
    ],
)
def test_names_of_columns_that_do_not_fit_are_told(
    tmp_path: Path, header: str, renames: dict[str, str], says: str
) -> None:
    assert says in refused(tmp_path / "notes.csv", f"{header}\nfine,good\n".encode(), renames=renames)


def test_a_rename_may_be_for_another_table_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("text\nfine\n")
    (tmp_path / "people.csv").write_text("name\nAnn\n")
    assert read(tmp_path, renames={"name": "user"})["text"].tolist() == ["fine"]
    with pytest.raises(DataError, match="--rename gone=user: notes.csv has no column 'gone'"):
        read(tmp_path, renames={"gone": "user"})
