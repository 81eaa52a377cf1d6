"""Shows that the distributions agree with one another, with the root and with what is pinned."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from tests.repository.conftest import Projects


def pins(root: Path) -> dict[str, str]:
    """Return the version pinned for each distribution in constraints.txt."""
    lines = (root / "constraints.txt").read_text("utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def requirements(project: dict[str, Any]) -> list[Requirement]:
    """Return what one distribution asks for, extras included."""
    extras = project["project"].get("optional-dependencies", {}).values()
    lines = [*project["project"].get("dependencies", []), *(line for extra in extras for line in extra)]
    return [Requirement(line) for line in lines]


def test_the_root_installs_every_distribution(root: Path, projects: Projects) -> None:
    dependencies = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    named = {re.split(r"[\[ ]", line)[0]: line.rpartition("{root:uri}/")[2] for line in dependencies}
    assert named == {project["project"]["name"]: folder for folder, project in projects.items()}


def test_make_installs_every_distribution_with_the_extras_of_the_root(root: Path) -> None:
    dependencies = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    line = re.search(r"^EDITABLE := (.*)$", (root / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert line
    asked = {entry.rpartition("{root:uri}/")[2] + "".join(re.findall(r"\[.*?\]", entry)) for entry in dependencies}
    assert set(line[1].split()) == asked


def test_one_version_licence_floor_and_backend(root: Path, projects: Projects) -> None:
    every = [tomllib.loads((root / "pyproject.toml").read_text("utf-8")), *projects.values()]
    for key in ("version", "license", "requires-python"):
        assert len({project["project"][key] for project in every}) == 1, key
    assert {tuple(project["build-system"]["requires"]) for project in every} == {("hatchling==1.33.0",)}


def test_every_distribution_carries_the_licence(root: Path, projects: Projects) -> None:
    text = (root / "LICENSE").read_bytes()
    assert [folder for folder in projects if (root / folder / "LICENSE").read_bytes() != text] == []


def test_mercato_is_a_namespace_package_in_every_source_tree(root: Path, projects: Projects) -> None:
    assert [folder for folder in projects if list((root / folder).glob("**/mercato/__init__.py"))] == []


def test_every_dependency_is_pinned_within_its_range(root: Path, projects: Projects) -> None:
    pinned = pins(root)
    own = {project["project"]["name"] for project in projects.values()}
    asked = [item for project in projects.values() for item in requirements(project) if item.name not in own]
    here = [item for item in asked if item.marker is None or item.marker.evaluate()]
    wrong = [str(item) for item in here if not item.specifier.contains(pinned.get(canonicalize_name(item.name), "0"))]
    assert wrong == []


def test_development_tools_are_pinned(root: Path) -> None:
    groups = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    assert set(groups["dev"]) <= pins(root).keys()
    assert all("==" in line for line in groups["gen"])
