"""Recorded examples: they come back as they were written, and nothing else is read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercato_plugin import Example, FolderError
from mercato_plugin.examples import MAX_BYTES, read_examples, write_examples

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
FIELDS = st.dictionaries(st.sampled_from(["text", "x", "a.b"]), VALUES, max_size=2)
EXAMPLES = st.lists(st.builds(Example, FIELDS, FIELDS, st.none() | FIELDS), max_size=3)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files") / "examples.json"


@given(examples=EXAMPLES)
def test_everything_comes_back_exactly(examples: list[Example], file: Path) -> None:
    write_examples(file, examples)
    assert repr(read_examples(file)) == repr(examples)


@given(bits=st.integers(0, 2**32 - 1))
def test_a_float32_comes_back_bit_by_bit(bits: int, file: Path) -> None:
    value = np.array([bits], np.uint32).view(np.float32)
    write_examples(file, [Example({"x": value})])
    back = np.asarray(read_examples(file)[0].inputs["x"], np.float32)
    assert back.tobytes() == value.tobytes() or (np.isnan(back) and np.isnan(value))


def test_arrays_become_lists(file: Path) -> None:
    inputs = {
        "x": np.arange(6, dtype=np.int8).reshape(2, 3),
        "text": np.array(["红", ""], object),
        "one": np.float32(0.1),
    }
    write_examples(file, [Example(inputs, {"k": np.int64(3)}, {"y": np.array([True])})])
    (example,) = read_examples(file)
    assert example.inputs == {"x": [[0, 1, 2], [3, 4, 5]], "text": ["红", ""], "one": float(np.float32(0.1))}
    assert (example.parameters, example.outputs) == ({"k": 3}, {"y": [True]})


@pytest.mark.parametrize("number", [2, True, 1.0, "1", None])
def test_another_format_is_refused(file: Path, number: Any) -> None:
    file.write_text(json.dumps({"format": number, "examples": []}))
    with pytest.raises(FolderError, match="is no file of examples in format 1; train the model again"):
        read_examples(file)


def test_absent_outputs_stay_absent(file: Path) -> None:
    write_examples(file, [Example({}), Example({}, outputs={})])
    assert [example.outputs for example in read_examples(file)] == [None, {}]


def deep(levels: int) -> Any:
    return [deep(levels - 1)] if levels else 0


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([b"jpeg"], "bytes"),
        ([{"a": 1}], "dict"),
        (1j, "complex"),
        (deep(9), "lists more than 8 deep"),
    ],
)
def test_what_is_not_plain_is_not_written(value: object, shown: str, file: Path) -> None:
    with pytest.raises(FolderError, match=f"examples.json: example 1: inputs.x holds {shown}, expected"):
        write_examples(file, [Example({}), Example({"x": value})])


def test_half_a_surrogate_pair_is_not_written(file: Path) -> None:
    with pytest.raises(FolderError, match="half of a surrogate pair"):
        write_examples(file, [Example({"text": ["\ud83d"]})])


def test_too_much_is_neither_written_nor_read(file: Path) -> None:
    with pytest.raises(FolderError, match="expected at most 16777216; record fewer"):
        write_examples(file, [Example({"text": ["a" * MAX_BYTES]})])
    file.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(FolderError, match="is no file of at most 16777216 bytes"):
        read_examples(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is no file of examples in format 1"),
        (b'{"format": 2, "examples": []}', "is no file of examples in format 1"),
        (b'{"format": 1, "examples": {}}', "is no file of examples in format 1"),
        (b'{"format": 1, "examples": [[]]}', "example 0 has not the parts inputs, parameters, outputs"),
        (b'{"format": 1, "examples": [{"inputs": {}, "parameters": {}}]}', "example 0 has not the parts"),
    ],
)
def test_what_is_no_file_of_examples_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "examples.json"
    file.write_bytes(content)
    with pytest.raises(FolderError, match=message) as refused:
        read_examples(file)
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize("value", ['{"a": 1}', '[{"a": 1}]'])
def test_values_that_nothing_writes_are_refused(value: str, tmp_path: Path) -> None:
    item = json.dumps({"inputs": {"x": 0}, "parameters": {}, "outputs": None}).replace("0", value)
    (tmp_path / "examples.json").write_text(f'{{"format": 1, "examples": [{item}]}}')
    with pytest.raises(FolderError, match="example 0: inputs.x holds"):
        read_examples(tmp_path / "examples.json")


def test_a_missing_file_is_named_without_its_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "examples.json", tmp_path):
        with pytest.raises(FolderError, match="is no file") as refused:
            read_examples(path)
        assert str(tmp_path) not in str(refused.value)
