"""`mercato train` and `mercato evaluate` as a shell sees them, with several processes and with a real server."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.plugins.semantic.encoders import write_bert
from tests.server.running import MERCATO

from mercato_plugin import read_folder
from mercato_training import Trained

Run = Callable[..., Trained]


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command, env = [str(MERCATO), *arguments], {**os.environ, **environment}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=env)


def test_two_processes_find_what_one_finds(trained: Run, line_data: Path, tmp_path: Path) -> None:
    alone = load_file(trained("pricing.linear", line_data).folder.files / "weights.safetensors")
    done = run(tmp_path, "train", "pricing.linear", "--data", str(line_data), "--processes", "2", "--json")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "models" / "pricing.linear" / "2"
    shared = load_file(folder / "files" / "weights.safetensors")
    assert all(np.allclose(alone[name], shared[name], rtol=1e-5) for name in alone)
    assert json.loads((folder / "manifest.json").read_text())["made"]["processes"] == 2


def test_two_processes_share_the_encoding_and_find_the_same_head(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERCATO_PLUGINS__MERCATO_REVIEWS__ENCODER", str(write_bert(tmp_path / "encoder")))
    said = {"退款": "退款", "物流": "运动"}
    rows = [f"{start} {thing},{label}" for label, start in said.items() for thing in "红色鞋深灰ABCDE"]
    data = tmp_path / "messages.csv"
    data.write_text("text,intent\n" + "\n".join(rows), encoding="utf-8")
    alone = load_file(trained("reviews.intent", data, epochs=20).folder.files / "head.safetensors")
    given = ("--data", str(data), "--processes", "2", "--epochs", "20", "--device", "cpu")
    done = run(tmp_path, "train", "reviews.intent", *given)
    assert done.returncode == 0, done.stderr
    shared = load_file(tmp_path / "models" / "reviews.intent" / "2" / "files" / "head.safetensors")
    assert all(np.allclose(alone[name], shared[name], rtol=1e-4, atol=1e-6) for name in alone)


def test_several_processes_tell_of_bad_data_once(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("x,y\n1,2\n2,many\n")
    done = run(tmp_path, "train", "pricing.linear", "--data", "prices.csv", "--processes", "2")
    assert done.returncode == 2
    assert done.stderr == "mercato: prices.csv: column 'y', row 2: got 'many', expected a number\n"


def test_a_refusal_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "train", "pricing.linear", "--data", "absent", "--processes", "65")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "mercato: --processes: got 65, expected 1 to 64\n"


def test_evaluate_serves_what_was_trained_and_scores_it_alike(line_data: Path, tmp_path: Path) -> None:
    store = {"MERCATO_STORE": str(tmp_path / "store")}
    told = run(tmp_path, "train", "pricing.linear", "--data", str(line_data))
    assert "prices: 300 of 300 rows; nothing dropped" in told.stdout
    assert "serve it: mercato serve --models-dir models" in told.stdout
    assert "baseline" in told.stdout and told.stderr.startswith("fit: ")
    trained = read_folder(tmp_path / "models", "pricing.linear", 1)
    done = run(tmp_path, "evaluate", "pricing.linear", "--data", str(line_data), "--json", **store)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert report["rows"] == trained.made["test_rows"] and report["version"] == 1
    assert abs(report["metrics"]["mse"] - trained.metrics["mse"]) < 1e-6
    assert 0 < report["latency_p50_ms"] <= report["latency_p95_ms"] and report["rows_per_second"] > 0
    assert json.loads((tmp_path / "evaluation" / "evaluation.json").read_text()) == [report]
    assert (tmp_path / "evaluation" / "pricing-linear-1.png").read_bytes().startswith(b"\x89PNG")
