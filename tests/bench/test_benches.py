"""Shows that every benchmark of two sides runs against real servers and prints its figures; no figure is asserted."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.server.running import PATIENCE, environment

ROOT = Path(__file__).parents[2]


def figures(name: str, folder: Path, *flags: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", f"bench.{name}", "--rounds", "1", "--json", *flags]
    run = subprocess.run(
        command, cwd=ROOT, env=environment(folder), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert run.returncode == 0, run.stderr
    found: list[dict[str, Any]] = json.loads(run.stdout)[name]
    return found


@pytest.mark.parametrize(
    ("name", "cases"),
    [
        ("overhead", ["64 in flight", "1 in flight"]),
        ("stream", ["64 in flight", "1 in flight"]),
        ("client", ["Client", "AsyncClient"]),
        ("isolation", ["linear, 1 in flight", "linear, 64 in flight", "encoder, 16 in flight"]),
    ],
)
def test_a_benchmark_runs(name: str, cases: list[str], store: Path, tmp_path: Path) -> None:
    found = figures(name, tmp_path, "--store", str(store), "--calls", "200")
    assert [each["case"] for each in found] == cases
    assert all(spread["median"] for each in found for key, spread in each["figures"].items() if "added" not in key)


def test_a_version_is_swapped_under_load_without_a_failed_call(tmp_path: Path) -> None:
    found = figures("swap", tmp_path, "--rate", "50", "--store", str(tmp_path / "store"))
    assert [each["case"] for each in found] == ["same number", "new number, label moved"]
    assert [each["rounds"]["failed"] for each in found] == [[0], [0]]
