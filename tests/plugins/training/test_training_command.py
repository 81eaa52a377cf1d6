"""`mercato train` and `mercato evaluate` as a shell sees them, with several processes and with a real server."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.plugins.semantic.encoders import write_bert
from tests.server.running import MERCATO


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command, env = [str(MERCATO), *arguments], {**os.environ, **environment}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=env)


def weights(folder: Path, version: int) -> dict[str, np.ndarray]:
    return load_file(folder / "models" / "pricing.linear" / str(version) / "files" / "weights.safetensors")


def test_two_processes_find_what_one_finds(line_data: Path, tmp_path: Path) -> None:
    for processes in (1, 2):
        done = run(
            tmp_path, "train", "pricing.linear", "--data", str(line_data), "--processes", str(processes), "--json"
        )
        assert done.returncode == 0, done.stderr
    one, two = weights(tmp_path, 1), weights(tmp_path, 2)
    assert all(np.allclose(one[name], two[name], rtol=1e-5) for name in one)
    made = json.loads((tmp_path / "models" / "pricing.linear" / "2" / "manifest.json").read_text())["made"]
    assert made["processes"] == 2


def test_two_processes_share_the_encoding_and_find_the_same_head(tmp_path: Path) -> None:
    encoder = write_bert(tmp_path / "encoder")
    rows = [
        f"{said}{thing},{label}"
        for label, said in (("退款", "退款 "), ("物流", "运动 "))
        for thing in "红色鞋深灰ABCDE"
    ]
    (tmp_path / "messages.csv").write_text("text,intent\n" + "\n".join(rows), encoding="utf-8")
    heads = []
    for processes in ("1", "2"):
        done = run(
            tmp_path, "train", "reviews.intent", "--data", "messages.csv", "--processes", processes, "--epochs", "20",
            MERCATO_PLUGINS__MERCATO_REVIEWS__ENCODER=str(encoder),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        files = tmp_path / "models" / "reviews.intent" / processes / "files"
        heads.append(load_file(files / "head.safetensors"))
    assert all(np.allclose(heads[0][name], heads[1][name], rtol=1e-4, atol=1e-6) for name in heads[0])


def test_several_processes_tell_of_bad_data_once(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("x,y\n1,2\n2,many\n")
    done = run(tmp_path, "train", "pricing.linear", "--data", "prices.csv", "--processes", "2")
    assert done.returncode == 2
    assert done.stderr == "mercato: prices.csv: column 'y', row 2: got 'many', expected a number\n"


def test_train_tells_what_it_did_and_what_comes_next(line_data: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "train", "pricing.linear", "--data", str(line_data))
    assert "prices: 300 of 300 rows; nothing dropped" in done.stdout
    assert "serve it: mercato serve --models-dir models" in done.stdout
    assert "baseline" in done.stdout and done.stderr.startswith("fit: ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--data", "absent"), "mercato: --data: there is no file or folder 'absent'"),
        (("--data", "prices.csv", "--set", "speed=1"), "mercato: --set: there is no 'speed'; there are batch_rows, "),
        (
            ("--data", "prices.csv", "--hash-users", "none"),
            "mercato: --hash-users: the salt file 'none' cannot be read",
        ),
        (("--data", "prices.csv", "--processes", "65"), "mercato: --processes: got 65, expected 1 to 64"),
    ],
)
def test_a_refusal_is_one_line(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    (tmp_path / "prices.csv").write_text("x,y\n1,2\n2,4\n")
    done = run(tmp_path, "train", "pricing.linear", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(says) and done.stderr.count("\n") == 1


def test_evaluate_serves_what_was_trained_and_scores_it_alike(line_data: Path, tmp_path: Path) -> None:
    store = {"MERCATO_STORE": str(tmp_path / "store")}
    trained = json.loads(run(tmp_path, "train", "pricing.linear", "--data", str(line_data), "--json").stdout)
    assert trained["tables"] == {"prices": {"read": 300, "rows": 300, "dropped": {}}}
    done = run(tmp_path, "evaluate", "pricing.linear", "--data", str(line_data), "--json", **store)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert report["rows"] == trained["test_rows"] and report["version"] == 1
    assert abs(report["metrics"]["mse"] - trained["metrics"]["mse"]) < 1e-6
    assert 0 < report["latency_p50_ms"] <= report["latency_p95_ms"] and report["rows_per_second"] > 0
    assert json.loads((tmp_path / "evaluation" / "evaluation.json").read_text()) == [report]
    assert (tmp_path / "evaluation" / "pricing-linear-1.png").read_bytes().startswith(b"\x89PNG")
