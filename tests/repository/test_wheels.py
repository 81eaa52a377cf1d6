"""Shows what the wheels hold, and that an installation from them alone works."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.repository.outside import closure, install

if TYPE_CHECKING:
    from tests.repository.conftest import Projects

BUILD_TOOLS = {"torch", "onnx", "onnxscript", "skl2onnx", "scikit-learn", "mercato-training"}


def contents(wheels: Path) -> dict[str, list[str]]:
    """Return the file names in every wheel."""
    return {wheel.name: zipfile.ZipFile(wheel).namelist() for wheel in sorted(wheels.glob("*.whl"))}


def test_every_distribution_becomes_a_wheel(wheels: Path, projects: Projects) -> None:
    names = {project["project"]["name"].replace("-", "_") for project in projects.values()}
    assert {wheel.partition("-")[0] for wheel in contents(wheels)} == names


def test_mercato_is_a_namespace_package_in_every_wheel(wheels: Path) -> None:
    assert [wheel for wheel, files in contents(wheels).items() if "mercato/__init__.py" in files] == []


def test_every_wheel_is_typed_and_licensed(wheels: Path) -> None:
    for wheel, files in contents(wheels).items():
        assert any(name.endswith("/py.typed") for name in files), wheel
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in files), wheel


def test_a_wheel_holds_one_package_and_its_metadata(wheels: Path) -> None:
    for wheel, files in contents(wheels).items():
        assert len({name.partition("/")[0] for name in files}) == 2, wheel


def test_a_client_brings_neither_runtime_nor_build_tools(wheels: Path) -> None:
    brought = closure(wheels, "mercato-client[cli]")
    assert brought & (BUILD_TOOLS | {"onnxruntime", "onnxruntime-gpu", "mercato-server", "mercato-plugin"}) == set()


def test_a_server_brings_no_build_tools(wheels: Path) -> None:
    brought = closure(wheels, "mercato-server", "mercato-pricing", "mercato-semantic", "mercato-reviews")
    assert brought & (BUILD_TOOLS | {"sentence-transformers", "transformers"}) == set()


def test_a_client_alone_runs(wheels: Path, tmp_path: Path) -> None:
    commands = install(tmp_path / "client", wheels, "mercato-client[cli]")
    run = subprocess.run([commands / "mercato", "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "predict" in run.stdout


def test_a_client_library_needs_no_command_line(wheels: Path, tmp_path: Path) -> None:
    commands = install(tmp_path / "library", wheels, "mercato-client")
    run = subprocess.run(
        [commands / "python", "-c", "import mercato_client"], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
