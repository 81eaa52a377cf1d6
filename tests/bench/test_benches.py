"""Shows that benchmarks run against real servers and print their figures; no figure of time is asserted."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.server.running import PATIENCE, environment

ROOT = Path(__file__).parents[2]


def figures(name: str, folder: Path, *flags: str) -> Any:
    command = [sys.executable, "-m", f"bench.{name}", "--json", *flags]
    run = subprocess.run(
        command, cwd=ROOT, env=environment(folder), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)[name]


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
    found = figures(name, tmp_path, "--rounds", "1", "--calls", "200", "--store", str(store))
    assert [each["case"] for each in found] == cases
    assert all(spread["median"] for each in found for key, spread in each["figures"].items() if "added" not in key)


def test_a_version_is_swapped_under_load_without_a_failed_call(tmp_path: Path) -> None:
    found = figures("swap", tmp_path, "--rounds", "1", "--rate", "50", "--store", str(tmp_path / "store"))
    assert [each["case"] for each in found] == ["same number", "new number, label moved"]
    assert [each["rounds"]["failed"] for each in found] == [[0], [0]]


def test_both_models_are_put_under_overload_and_answer_health_checks(store: Path, tmp_path: Path) -> None:
    found = figures("overload", tmp_path, "--seconds", "1", "--store", str(store))
    assert [each["model"] for each in found] == ["semantic.encoder", "pricing.linear"]
    assert [step["times"] for step in found[0]["steps"]] == [0.8, 1.0, 2.0, 3.0, 0.8]
    assert all(each["peak"] and each["checks"] and not each["checks_failed"] for each in found)


def test_mixed_lengths_are_computed_beside_plain_padding(store: Path, tmp_path: Path) -> None:
    own = shutil.copytree(store, tmp_path / "store")  # the yardstick is exported into it
    [found] = figures("lengths", tmp_path, "--rounds", "1", "--calls", "64", "--store", str(own))
    [ours], [plain] = found["rounds"]["encoder_padded"], found["rounds"]["plain_padded"]
    assert 1 <= ours < plain


def test_an_urgent_caller_is_measured_beside_a_flood(store: Path, tmp_path: Path) -> None:
    found = figures("priority", tmp_path, "--rounds", "1", "--seconds", "2", "--store", str(store))
    assert all(found["all"][load]["p99_ms"] for load in ("alone", "urgent", "equal"))
    assert found["all"]["batch_ms"]


def test_the_queue_is_measured_at_three_depths(tmp_path: Path) -> None:
    found = figures("depth", tmp_path, "--rounds", "1", "--batches", "20")
    assert [list(each["ns"]) for each in found] == [["10", "1000", "10000"]] * 2
