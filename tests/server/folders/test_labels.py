"""Metrics on the wire, and labels that move only to versions whose metrics pass the gates."""

import json
import subprocess
from pathlib import Path

import grpc
import pytest
from tests.server.calls import Failed, failed
from tests.server.folders.site import DISTRIBUTION, PLAIN, SCALE, Served, Site, serving
from tests.server.running import MERCATO, RUNTIME, Running

from mercato_client import Client


def refusal(served: Served, label: str, version: int, model: str = SCALE) -> Failed:
    with pytest.raises(grpc.RpcError) as caught:
        served.label(label, version, model)
    return failed(caught.value)


@pytest.fixture
def graded(site: Site) -> Site:
    """Three versions: a good one, a bad one, and one without the metric."""
    site.train(3, metrics={"f1": 0.83, "ndcg@10": 0.5})
    site.train(5, metrics={"f1": 0.71})
    site.train(7, metrics={"accuracy": 0.99})
    return site


def test_metrics_are_told_by_the_catalogue_and_the_command(graded: Site, tmp_path: Path) -> None:
    models = json.dumps({SCALE: {"versions": [1, 3]}})
    with serving(graded, tmp_path / "work", models=models) as served, Client(served.running.address) as client:
        third, first = client.model(SCALE).versions
        assert (third.metrics, first.metrics) == ({"accuracy": 0.99}, {"f1": 0.83, "ndcg@10": 0.5})
        assert client.model(PLAIN).versions[0].metrics == {}
        command = [str(MERCATO), "models", SCALE, "--server", served.running.address]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if "│" in line]
        assert ["accuracy", "0.99", ""] in rows and ["f1", "", "0.83"] in rows and ["ndcg@10", "", "0.5"] in rows
        document = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout
        assert json.loads(document)["versions"][1]["metrics"] == {"f1": 0.83, "ndcg@10": 0.5}


def test_a_label_moves_only_to_a_version_that_passes(graded: Site, tmp_path: Path) -> None:
    models = json.dumps({SCALE: {"versions": [1, 2, 3], "gate": ["f1<=1"]}})
    gates = ("--gate", f"{SCALE}: f1>=0.8", "--gate", "ndcg@10>0.1")
    with serving(graded, tmp_path / "work", *gates, models=models) as served:
        assert served.label("stable", 1) == {"stable": 1}
        bad = refusal(served, "stable", 2)
        assert (bad.code, bad.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "GATE_NOT_PASSED")
        assert bad.text == f"model '{SCALE}' version 2 cannot be 'stable': metric f1 is 0.71, the gate is f1>=0.8"
        assert bad.facts["model"] == SCALE
        unmeasured = refusal(served, "canary", 3).text
        assert unmeasured == f"model '{SCALE}' version 3 cannot be 'canary': it has no metric f1, the gate is f1>=0.8"
        assert refusal(served, "stable", 1, PLAIN).text == (
            f"model '{PLAIN}' version 1 cannot be 'stable': it has no metric ndcg@10, the gate is ndcg@10>0.1"
        )
        assert dict(served.model().labels) == {"stable": 1} and served.answer([1, 2])[0] == 1


def test_the_command_says_why_a_label_was_not_moved(graded: Site, tmp_path: Path) -> None:
    gate = "f1>=0.8"
    with serving(graded, tmp_path / "work", "--gate", gate, models=json.dumps({SCALE: {"versions": [2]}})) as served:
        admin = ("--admin", f"unix:{tmp_path}/work/admin/socket")
        command = [str(MERCATO), "admin", "label", SCALE, "stable", "--version", "2", *admin]
        done = subprocess.run(command, capture_output=True, text=True, env=graded.environment(), check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            f"mercato: model '{SCALE}' version 2 cannot be 'stable': metric f1 is 0.71, the gate is f1>=0.8\n"
        )
        assert dict(served.model().labels) == {}


def test_a_configured_label_that_does_not_pass_is_not_set(graded: Site, tmp_path: Path) -> None:
    models = json.dumps({SCALE: {"labels": {"stable": 1, "canary": 2}, "gate": ["f1>=0.8"]}})
    told = f"model '{SCALE}' version 2 cannot be 'canary', which is not set: metric f1 is 0.71, the gate is f1>=0.8"
    with serving(graded, tmp_path / "work", models=models) as served:
        assert served.versions() == {3: "AVAILABLE", 2: "AVAILABLE", 1: "AVAILABLE"}
        assert dict(served.model().labels) == {"stable": 1}
        assert served.refused([1, 2], label="canary").reason == "MODEL_NOT_FOUND"
        assert served.running.log.count(told) == 1
    strict = Running(graded.store, tmp_path / "strict", graded.environment(models=models), "--strict")
    assert strict.ended() == 1
    assert f"refusing to serve (strict): {told}" in strict.log


def test_a_configured_label_waits_for_its_version_and_is_held_then(graded: Site, tmp_path: Path) -> None:
    models = json.dumps({SCALE: {"labels": {"next": 4, "after": 5}}})
    with serving(graded, tmp_path / "work", "--gate", "f1>=0.8", models=models) as served:
        graded.train(11, metrics={"f1": 0.9})
        graded.train(13, metrics={"f1": 0.2})
        served.load()
        assert served.answer([1, 2], label="next") == (4, [11, 22], 11)
        assert served.refused([1, 2], label="after").reason == "MODEL_NOT_FOUND"
        assert "version 5 cannot be 'after', which is not set: metric f1 is 0.2, the gate is f1>=0.8" in (
            served.running.log
        )


def test_a_gate_of_a_model_that_is_not_there_is_told(site: Site, tmp_path: Path) -> None:
    with serving(site, tmp_path / "work", "--gate", "shop.none: f1>=0.8", "--gate", f"{SCALE}: f1>=0.8") as served:
        assert "gate f1>=0.8 is of model 'shop.none', which is not installed" in served.running.log
        assert f"is of model {SCALE!r}" not in served.running.log


def test_a_gate_that_is_none_ends_the_start() -> None:
    done = subprocess.run(
        [MERCATO, "serve", "--gate", "f1=0.8"], capture_output=True, text=True, env={"HOME": RUNTIME}, check=False
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (
        "mercato serve: gate: got 'f1=0.8', expected a metric, one of >= > <= < and a number, "
        'such as "f1>=0.8" or "reviews.intent: f1>=0.8"\n'
    )


def test_plugins_that_need_training_are_told_as_such(graded: Site) -> None:
    (graded.models / SCALE / "3" / "manifest.json").unlink()
    env = graded.environment(models=json.dumps({SCALE: {"versions": [1, 2, 3]}}), plugins_deny="mercato-pricing")
    loaded, damaged = plugins(env)
    assert (loaded["state"], loaded["models"], loaded["untrained"]) == ("LOADED", [SCALE, PLAIN], [])
    assert loaded["versions"] == {SCALE: [2, 1], PLAIN: [1]}
    assert (damaged["state"], damaged["code"], damaged["versions"]) == ("REFUSED", "FOLDER_DAMAGED", {SCALE: [3]})

    (untrained,) = plugins({**env, "MERCATO_MODELS_DIR": ""}, "--models-dir", str(graded.folder / "none"))
    assert (untrained["state"], untrained["models"], untrained["untrained"]) == ("LOADED", [PLAIN], [SCALE])
    columns = {**env, "COLUMNS": "200", "MERCATO_MODELS_DIR": str(graded.folder / "none")}
    shown = subprocess.run([MERCATO, "plugins"], capture_output=True, text=True, env=columns, check=True).stdout
    assert f"{SCALE}: untrained; write its folder with mercato_plugin.publish_folder; it defines no train" in shown


def plugins(env: dict[str, str], *flags: str) -> list[dict[str, object]]:
    """The rows of the site's plugin."""
    command = [str(MERCATO), "plugins", "--json", *flags]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    return [row for row in json.loads(done.stdout) if row["plugin"] == DISTRIBUTION]


@pytest.mark.parametrize("command", ["export", "certificate"])
def test_a_command_names_a_model_that_is_untrained(site: Site, command: str) -> None:
    done = subprocess.run(
        [MERCATO, command, SCALE], capture_output=True, text=True, env=site.environment(), check=False
    )
    assert done.returncode in (1, 2) and done.stdout == ""
    way_out = "write its folder with mercato_plugin.publish_folder; it defines no train"
    assert done.stderr.endswith(f"model '{SCALE}' is untrained; {way_out}\n")


def test_certificates_are_of_versions(graded: Site) -> None:
    env = graded.environment(models=json.dumps({SCALE: {"versions": [1, 3]}}))
    rows = json.loads(run(env, "export", SCALE, "--json").stdout)
    assert [(row["version"], row["state"]) for row in rows] == [("3", "EXPORTED"), ("1", "EXPORTED")]
    newest = json.loads(run(env, "certificate", SCALE, "--json").stdout)
    oldest = json.loads(run(env, "certificate", SCALE, "--version", "1", "--json").stdout)
    assert [(found["version"], found["digest"]) for found in (newest, oldest)] == [
        (3, rows[0]["digest"]), (1, rows[1]["digest"]),
    ]  # fmt: skip
    none = run(env, "certificate", SCALE, "--version", "2")
    assert (none.returncode, "has no version 2 that is served; there are 1, 3" in none.stderr) == (1, True)


def run(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(MERCATO), *arguments], capture_output=True, text=True, env=env, check=False)
