"""Versions from model folders in real servers: side by side, loaded while they serve, damaged, and not there yet."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import grpc
import pytest
from tests.server.calls import failed
from tests.server.faults.site import gone
from tests.server.folders.site import DISTRIBUTION, PLAIN, SCALE, Site, serving
from tests.server.running import MERCATO, PATIENCE, Running

from mercato.v1 import admin_pb2

LABELLED = json.dumps({SCALE: {"labels": {"stable": 1}}})
isolations = pytest.mark.parametrize("isolation", ["process", "inline"])


@isolations
def test_two_versions_with_different_specifications_serve_side_by_side(
    site: Site, tmp_path: Path, isolation: str
) -> None:
    site.train(3, columns=2)
    site.train(7, columns=2)
    site.train(5, columns=3)
    with serving(site, tmp_path / "work", isolation=isolation, models=LABELLED) as served:
        assert served.versions() == {3: "AVAILABLE", 1: "AVAILABLE"}
        assert served.answer([1, 2]) == (1, [3, 6], 3)
        assert served.answer([1, 2, 3], version=3) == (3, [5, 10, 15], 5)
        assert served.refused([1, 2], version=3).code is grpc.StatusCode.INVALID_ARGUMENT
        newest, oldest = served.model().versions
        assert newest.digest != oldest.digest and newest.signature.fingerprint != oldest.signature.fingerprint
        assert served.answer([1, 2], PLAIN) == (1, [2, 4], 2)


@isolations
def test_a_folder_that_appeared_is_loaded_beside_what_serves(site: Site, tmp_path: Path, isolation: str) -> None:
    site.train(3)
    with serving(site, tmp_path / "work", isolation=isolation) as served:
        before = served.model().versions[0]
        site.train(5, columns=3)
        steps = served.load()
        assert sorted(steps) == [(SCALE, 1, "AVAILABLE", ""), (SCALE, 2, "AVAILABLE", "")]
        assert served.versions() == {2: "AVAILABLE", 1: "AVAILABLE"}
        assert served.model().versions[1] == before
        assert served.answer([1, 2, 3]) == (2, [5, 10, 15], 5)
        assert served.answer([1, 2], version=1) == (1, [3, 6], 3)
        assert served.load() == [(SCALE, 2, "AVAILABLE", ""), (SCALE, 1, "AVAILABLE", "")]


def test_an_older_version_comes_back_when_its_worker_is_started_again(site: Site, tmp_path: Path) -> None:
    site.train(3)
    with serving(site, tmp_path / "work") as served:
        site.train(5)
        served.load()
        older, newer = served.workers()
        os.kill(older.pid, signal.SIGKILL)
        assert gone(older.pid)
        until = time.monotonic() + PATIENCE
        while older.pid in served.pids() or served.versions()[1] != "AVAILABLE":
            assert time.monotonic() < until
            assert served.answer([1, 2]) == (2, [5, 10], 5)
        assert served.answer([1, 2], version=1) == (1, [3, 6], 3)
        assert newer.pid in served.pids()


def test_a_folder_that_appeared_has_no_part_in_a_worker_that_is_started_again(site: Site, tmp_path: Path) -> None:
    site.train(3)
    with serving(site, tmp_path / "work", crash_budget="2") as served:
        site.train(5, poison=True)
        (worker,) = served.workers()
        os.kill(worker.pid, signal.SIGKILL)
        assert gone(worker.pid)
        until = time.monotonic() + PATIENCE
        while worker.pid in served.pids() or served.versions() != {1: "AVAILABLE"}:
            assert time.monotonic() < until and served.versions()[1] != "FAILED"
        assert served.answer([1, 2]) == (1, [3, 6], 3) and served.refusals() == []


def test_a_version_that_was_unloaded_is_loaded_by_its_number(site: Site, tmp_path: Path) -> None:
    for factor in (3, 5, 7):
        site.train(factor)
    with serving(site, tmp_path / "work") as served:
        assert served.load(version=1) == [(SCALE, 1, "AVAILABLE", "")]
        assert served.versions() == {3: "AVAILABLE", 1: "AVAILABLE"}
        served.admin.Unload(admin_pb2.UnloadRequest(model=SCALE, version=1), timeout=30)
        served.load()
        assert served.versions() == {3: "AVAILABLE", 1: "UNLOADED"}
        served.load(version=1)
        assert served.answer([1, 2], version=1) == (1, [3, 6], 3)
        with pytest.raises(grpc.RpcError) as caught:
            served.load(version=9)
        assert failed(caught.value).text == (
            f"mercato-folders 1.0 does not offer model '{SCALE}' version 9: it has no model folder; "
            "bring it back, or name a version that has one"
        )


def test_a_version_that_fails_lets_the_others_in(site: Site, tmp_path: Path) -> None:
    site.train(3)
    site.train(3, unloadable=True)
    models = json.dumps({SCALE: {"labels": {"old": 1, "next": 3}}})
    with serving(site, tmp_path / "work", models=models) as served:
        assert served.versions() == {2: "FAILED", 1: "AVAILABLE"}
        site.train(5)
        steps = {version: (state, reason) for _, version, state, reason in served.load()}
        assert (steps[1], steps[3]) == (("AVAILABLE", ""), ("AVAILABLE", ""))
        assert steps[2][0] == "FAILED" and steps[2][1].endswith("load raised ValueError: no scale")
        assert served.versions() == {3: "AVAILABLE", 2: "FAILED", 1: "AVAILABLE"}
        assert served.answer([1, 2]) == (3, [5, 10], 5)


def test_named_versions_are_served_and_what_is_missing_is_told(site: Site, tmp_path: Path) -> None:
    for factor in (3, 5, 7):
        site.train(factor)
    models = json.dumps({SCALE: {"versions": [1, 2, 9], "labels": {"canary": 3}}})
    with serving(site, tmp_path / "work", models=models) as served:
        assert served.versions() == {2: "AVAILABLE", 1: "AVAILABLE"}
        assert served.answer([1, 2]) == (2, [5, 10], 5)
        (refused,) = served.refusals()
        assert (refused.code, refused.model, refused.version) == ("FOLDER_DAMAGED", SCALE, 9)
        assert refused.reason.startswith(
            "model folder shop.scale 9 is not there; there are 3, 2, 1: bring it back, or "
        )
    log = served.running.log
    assert "[models.'shop.scale'] label 'canary' means version 3, which is not installed" in log
    assert "[models.'shop.scale'] versions names 9, which has no model folder that can be served" in log


def test_a_model_of_which_only_missing_versions_are_named_is_told(site: Site, tmp_path: Path) -> None:
    site.train(3)
    with serving(site, tmp_path / "work", models=json.dumps({SCALE: {"versions": [9]}})) as served:
        refused = served.refused([1, 2])
        assert (
            refused.code is grpc.StatusCode.FAILED_PRECONDITION and "model folder shop.scale 9 is not" in refused.text
        )
    assert "model shop.scale version 9 of plugin mercato-folders refused: FOLDER_DAMAGED: " in served.running.log


def test_a_damaged_version_fails_alone(site: Site, tmp_path: Path) -> None:
    site.train(3)
    (site.train(5).path / "manifest.json").write_text("{")
    with serving(site, tmp_path / "work", models=json.dumps({SCALE: {"versions": [1, 2]}})) as served:
        assert served.versions() == {1: "AVAILABLE"}
        assert served.answer([1, 2], PLAIN) == (1, [2, 4], 2)
        (refused,) = served.refusals()
        assert (refused.code, refused.model, refused.version) == ("FOLDER_DAMAGED", SCALE, 2)
        assert "model folder shop.scale 2: manifest.json is not JSON" in refused.reason
    assert str(site.models) not in served.running.log


def test_a_damaged_highest_version_leaves_the_one_below_it_serving(site: Site, tmp_path: Path) -> None:
    site.train(3)
    (site.train(5).path / "manifest.json").unlink()
    with serving(site, tmp_path / "work") as served:
        assert served.versions() == {1: "AVAILABLE"}
        assert served.answer([1, 2]) == (1, [3, 6], 3)
        assert [(refused.model, refused.version) for refused in served.refusals()] == [(SCALE, 2)]


def test_a_load_tells_of_a_damaged_folder_and_loads_the_others(site: Site, tmp_path: Path) -> None:
    site.train(3)
    with serving(site, tmp_path / "work") as served:
        (site.train(5).path / "metrics.json").unlink()
        served.label("stable", 1)
        steps = {(model, version): (state, reason) for model, version, state, reason in served.load()}
        assert steps[SCALE, 1] == ("AVAILABLE", "")
        state, reason = steps[SCALE, 2]
        assert state == "FAILED" and reason.startswith("FOLDER_DAMAGED: model folder shop.scale 2: metrics.json is mi")
        assert served.answer([1, 2]) == (1, [3, 6], 3)
        assert [(refused.model, refused.version) for refused in served.refusals()] == [(SCALE, 2)]
        site.train(7)
        served.load()
        assert served.answer([1, 2], version=3) == (3, [7, 14], 7)
        assert served.refusals() == []


def test_a_file_that_is_not_as_training_left_it_fails_the_export(site: Site, tmp_path: Path) -> None:
    site.train(3)
    folder = site.train(5)
    (folder.files / "scale.json").write_text('{"factor": 6, "columns": 2}')
    with serving(site, tmp_path / "work", models=LABELLED) as served:
        assert served.versions() == {2: "FAILED", 1: "AVAILABLE"}
        reason = served.model().versions[0].reason
        assert reason.startswith(f"EXPORT_FAILED: model '{SCALE}' version 2: model folder {SCALE} 2: ")
        assert "'files/scale.json' is not the file that training wrote" in reason
        assert served.answer([1, 2]) == (1, [3, 6], 3)


def test_a_specification_that_raises_fails_its_version_alone(site: Site, tmp_path: Path) -> None:
    site.train(3)
    site.train(5, columns=0)
    site.train(7, name="shop.other")
    with serving(site, tmp_path / "work", models=json.dumps({SCALE: {"versions": [1, 2, 3]}})) as served:
        assert served.versions() == {1: "AVAILABLE"}
        third, second = served.refusals()
        assert (third.version, third.code) == (3, "SPEC_INVALID")
        assert "the specification of shop.scale version 3 has the name 'shop.other'" in third.reason
        assert (second.version, second.code) == (
            2,
            "SPEC_INVALID",
        ) and "a fixed axis must be at least 1" in second.reason


def test_what_cannot_be_served_refuses_a_strict_start(site: Site, tmp_path: Path) -> None:
    (site.train(5).path / "manifest.json").unlink()
    running = Running(site.store, tmp_path / "work", site.environment(), "--strict")
    assert running.ended() == 1
    assert "refusing to serve (strict): mercato-folders: model folder shop.scale 1: manifest.json is missing" in (
        running.log
    )


def test_a_model_without_a_folder_is_untrained_until_it_has_one(site: Site, tmp_path: Path) -> None:
    with serving(site, tmp_path / "work", "--strict", models_dir=str(tmp_path)) as served:
        assert served.ready["untrained"] == [SCALE] and served.refusals() == []
        assert served.listed() == [PLAIN]
        none = served.refused([1, 2])
        assert none.code is grpc.StatusCode.NOT_FOUND and none.reason == "MODEL_NOT_FOUND"
        assert none.text.startswith(f"model '{SCALE}' is installed but has no trained version; write its folder ")
        with pytest.raises(grpc.RpcError) as caught:
            served.load()
        assert failed(caught.value).code is grpc.StatusCode.NOT_FOUND
        site.models = tmp_path
        site.train(3)
        served.load(plugin=DISTRIBUTION)
        assert served.answer([1, 2]) == (1, [3, 6], 3)


def test_a_model_of_its_own_takes_its_folders_when_it_has_some(site: Site, tmp_path: Path) -> None:
    site.train(3, model=PLAIN)
    with serving(site, tmp_path / "work") as served:
        assert served.answer([1, 2], PLAIN) == (1, [3, 6], 3)


def test_the_same_files_are_the_same_artifact_and_others_another(site: Site, tmp_path: Path) -> None:
    site.train(3, metrics={"f1": 0.1})
    again = Site(tmp_path / "again")
    again.store = site.store
    again.train(3, metrics={"f1": 0.9})
    other = Site(tmp_path / "other")
    other.store = site.store
    other.train(4)
    first, same, different = (exported(place) for place in (site, again, other))
    assert (first["state"], same["state"], different["state"]) == ("EXPORTED", "STORED", "EXPORTED")
    assert first["digest"] == same["digest"] != different["digest"]


def exported(site: Site) -> dict[str, str]:
    """What `mercato export` says of the scaling model."""
    command = [str(MERCATO), "export", SCALE, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=site.environment(), check=True)
    (row,) = json.loads(done.stdout)
    return dict(row)
