"""The registry: what is installed, read from metadata alone, and the hash of a plugin's sources."""

import sys
from pathlib import Path

import pytest
from tests.server.plugins.conftest import Install

from mercato_server.contract.plugin import PluginInfo
from mercato_server.plugins.registry import installed, source_hash

INFO = PluginInfo("mercato-made", "1.0", "mercato_made", "mercato_made")


def test_plugins_are_found_without_importing_them(add: Install) -> None:
    add("Mercato.Made", "raise SystemExit", entry_point="made")
    names = [info.distribution for info in installed()]

    assert "mercato-made" in names and names == sorted(names)
    assert "mercato_made" not in sys.modules


def test_of_two_copies_the_first_on_the_path_counts(
    add: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("mercato-made", "", version="1.0")
    shadowing = tmp_path / "first"
    info = shadowing / "mercato_made-2.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mercato-made\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[mercato.plugins]\nmercato_made = mercato_made\n")
    monkeypatch.syspath_prepend(str(shadowing))

    assert [info.version for info in installed() if info.distribution == "mercato-made"] == ["2.0"]


def test_the_hash_follows_every_file_of_the_package(add: Install, site: Path) -> None:
    add("mercato-made", "x = 1")
    package = site / "mercato_made"
    seen = {source_hash(INFO)}
    for name, content in [("__init__.py", "x = 2"), ("table.json", "{}"), ("inner/deep.py", ""), ("table.json", "[]")]:
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text(content)
        seen.add(source_hash(INFO))
    (package / "table.json").rename(package / "other.json")
    seen.add(source_hash(INFO))

    assert len(seen) == 6


def test_the_hash_is_blind_to_compiled_files(add: Install, site: Path) -> None:
    add("mercato-made", "x = 1")
    before = source_hash(INFO)
    (site / "mercato_made" / "__pycache__").mkdir()
    (site / "mercato_made" / "__pycache__" / "made.cpython-311.pyc").write_bytes(b"\0")

    assert source_hash(INFO) == before


def test_content_that_moves_between_files_changes_the_hash(add: Install, site: Path) -> None:
    add("mercato-made", "")
    (site / "mercato_made" / "a").write_text("xy")
    (site / "mercato_made" / "b").write_text("")
    before = source_hash(INFO)
    (site / "mercato_made" / "a").write_text("x")
    (site / "mercato_made" / "b").write_text("y")

    assert source_hash(INFO) != before


def test_a_plugin_of_one_module_is_hashed_too(site: Path) -> None:
    info = PluginInfo("mercato-single", "1.0", "single", "mercato_single")
    (site / "mercato_single.py").write_text("x = 1")
    before = source_hash(info)
    (site / "mercato_single.py").write_text("x = 2")

    assert source_hash(info) != before


def test_one_distribution_is_found_by_its_canonical_name_alone() -> None:
    (info,) = installed("mercato-pricing")
    assert info in installed() and info.distribution == "mercato-pricing"
    assert installed("no-such-distribution") == []
