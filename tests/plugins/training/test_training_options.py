"""Options and settings: text becomes typed values, and what is wrong is named with what was expected."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from mercato_training import TrainingError, option
from mercato_training.options import filled, pairs, plugin_settings, renames


@dataclass(frozen=True)
class Chosen:
    rate: float = option(0.1, doc="rate", low=0.0, high=1.0)
    rows: int = option(8, doc="rows", low=1)
    kind: Literal["a", "b"] = option("a", doc="kind")
    names: tuple[str, ...] = option((), doc="names")
    fast: bool = option(False, doc="fast")
    folder: Path | None = option(None, doc="folder")


def test_text_becomes_what_the_field_says() -> None:
    given = pairs(["rate=0.5", "rows=3", "kind=b", "names=x, y", "fast=yes", "folder=/a/b"], "--set")
    assert filled(Chosen, given, "--set") == Chosen(0.5, 3, "b", ("x", "y"), True, Path("/a/b"))
    assert filled(Chosen, {}, "--set") == Chosen()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("speed=3", "--set: there is no 'speed'; there are fast, folder, kind, names, rate, rows"),
        ("rate=fast", "--set rate: got 'fast', expected float"),
        ("rate=2", "--set rate: got 2.0, expected 0.0 to 1.0"),
        ("rate=nan", "--set rate: got nan, expected 0.0 to 1.0"),
        ("rows=0", "--set rows: got 0, expected 1 to any"),
        ("rows=2.5", "--set rows: got '2.5', expected int"),
        ("kind=c", "--set kind: got 'c', expected one of a, b"),
        ("fast=maybe", "--set fast: got 'maybe', expected true or false"),
        ("rate", "--set: got 'rate', expected KEY=VALUE"),
        ("names=", "--set names: got '', expected names with commas between them"),
        ("names=x,,y", "--set names: got 'x,,y', expected names with commas between them"),
    ],
)
def test_what_is_wrong_is_named(given: str, says: str) -> None:
    with pytest.raises(TrainingError) as refused:
        filled(Chosen, pairs([given], "--set"), "--set")
    assert str(refused.value) == says


def test_a_key_is_given_once() -> None:
    with pytest.raises(TrainingError, match="--set: 'rate' is given twice"):
        pairs(["rate=1", "rate=0"], "--set")


@pytest.mark.parametrize("given", ["text", "text=", "=text"])
def test_a_rename_has_two_names(given: str) -> None:
    with pytest.raises(TrainingError) as refused:
        renames([given])
    assert str(refused.value) == f"--rename: got {given!r}, expected THEIRS=OURS"


def test_settings_come_from_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mercato.toml").write_text('[plugins."mercato-x"]\nrows = 4\nrate = 0.25\nother = 1\n')
    monkeypatch.setenv("MERCATO_CONFIG", str(tmp_path / "mercato.toml"))
    monkeypatch.setenv("MERCATO_PLUGINS__MERCATO_X__RATE", "0.75")
    found: Any = plugin_settings("mercato-x", Chosen)
    assert (found.rows, found.rate) == (4, 0.75)
    assert plugin_settings("mercato-y", Chosen) == Chosen()
    assert plugin_settings("mercato-y", None) is None
    (tmp_path / "mercato.toml").write_text("[plugins")
    with pytest.raises(TrainingError, match="mercato.toml is not TOML"):
        plugin_settings("mercato-x", Chosen)
