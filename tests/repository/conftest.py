"""Owns what the repository's own tests share: the distributions' metadata and the wheels built from them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

Projects = dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the repository."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def projects(root: Path) -> Projects:
    """The parsed `pyproject.toml` of every distribution, by its folder relative to the top."""
    patterns = ("protos", "server", "clients/*", "plugins/*")
    found = sorted(path for pattern in patterns for path in root.glob(f"{pattern}/pyproject.toml"))
    return {path.parent.relative_to(root).as_posix(): tomllib.loads(path.read_text("utf-8")) for path in found}


@pytest.fixture(scope="session")
def sources(root: Path, projects: Projects) -> list[Path]:
    """Every Python module that is installed, generated ones left out."""
    return sorted(path for folder in projects if folder != "protos" for path in (root / folder / "src").rglob("*.py"))


@pytest.fixture(scope="session")
def wheels(root: Path, projects: Projects, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of every distribution."""
    into = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(into), *(str(root / folder) for folder in projects)], check=True)
    return into
