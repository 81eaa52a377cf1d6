"""A training from data to a model folder: whole or not at all, the same again, and nothing of anybody's in it."""

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mercato_plugin import read_folder
from mercato_training import EvaluateContext, Group, Job, Quiet, Trained, TrainingError, train
from mercato_training.finding import find
from mercato_training.run import has_checkpoint

Run = Callable[..., Trained]


def test_the_line_of_a_table_is_found_and_scored(trained: Run, line_data: Path) -> None:
    done = trained("pricing.linear", line_data)
    assert done.folder.metrics["mse"] < 0.02 < 20 < done.folder.metrics["baseline_mse"]
    assert done.folder.metrics["r2"] > 0.99
    assert done.evaluation.rows == done.folder.made["test_rows"]


def test_the_folder_is_whole_and_says_how_it_was_made(trained: Run, line_data: Path, tmp_path: Path) -> None:
    done = trained("pricing.linear", line_data, {"learning_rate": "0.1"}, seed=11)
    folder = read_folder(tmp_path / "models", "pricing.linear", 1)
    folder.verify()
    assert (folder.version, folder.metrics) == (1, dict(done.folder.metrics))
    made = folder.made
    assert made["options"] == {"learning_rate": 0.1, "batch_rows": 64} and made["seed"] == 11
    assert made["data"]["prices"]["rows"] == 300 and len(made["data"]["prices"]["sha256"]) == 64
    assert made["seconds"] > 0 and made["peak_bytes"] > 1 << 20
    assert str(tmp_path) not in (folder.path / "manifest.json").read_text()


def test_versions_count_up_and_the_same_training_gives_the_same_files(trained: Run, line_data: Path) -> None:
    first, second = trained("pricing.linear", line_data), trained("pricing.linear", line_data)
    other = trained("pricing.linear", line_data, seed=8)
    assert [done.folder.version for done in (first, second, other)] == [1, 2, 3]
    assert first.folder.digest == second.folder.digest != other.folder.digest


def test_nothing_is_left_beside_the_versions(trained: Run, line_data: Path, tmp_path: Path) -> None:
    trained("pricing.linear", line_data)
    assert [path.name for path in (tmp_path / "models" / "pricing.linear").iterdir()] == ["1"]


def test_a_training_that_fails_writes_no_version(trained: Run, tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("x,y\n1,2\n2,many\n")
    with pytest.raises(TrainingError, match="column 'y', row 2: got 'many'"):
        trained("pricing.linear", tmp_path / "prices.csv")
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("pricing.none", "model 'pricing.none' is not installed; there are "),
        ("semantic.encoder", "model 'semantic.encoder' of mercato-semantic defines no train"),
    ],
)
def test_a_model_that_cannot_be_trained_is_told(trained: Run, line_data: Path, model: str, says: str) -> None:
    with pytest.raises(TrainingError) as refused:
        trained(model, line_data)
    assert says in str(refused.value)


def test_a_folder_that_cannot_be_written_is_told(trained: Run, line_data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="model folders of pricing.linear cannot be written: Not a dir"):
        trained("pricing.linear", line_data, models_dir=tmp_path / "file")


def test_a_gpu_that_is_not_there_is_told(trained: Run, line_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(TrainingError, match="--device: there is no GPU that torch can use"):
        trained("pricing.linear", line_data, device="cuda")
    with pytest.raises(TrainingError, match="--device: got 'tpu'"):
        trained("pricing.linear", line_data, device="tpu")


class Interrupted(Exception):
    """Somebody ended the training."""


class Ending(Quiet):
    """Ends the training after some epochs."""

    def __init__(self, after: int) -> None:
        self._after = after
        self.said: list[str] = []

    def step(self, title: str, done: int, total: int, note: str = "") -> None:
        if done == self._after:
            raise Interrupted

    def say(self, text: str) -> None:
        self.said.append(text)


def test_a_training_goes_on_where_it_was_ended(trained: Run, line_data: Path, tmp_path: Path) -> None:
    whole = trained("pricing.linear", line_data)
    facts: dict[str, Any] = {"data": line_data, "models_dir": tmp_path / "again", "device": "cpu"}
    with pytest.raises(Interrupted):
        train(Job("pricing.linear", **facts), Group(), Ending(after=3))
    report = Ending(after=-1)
    done = train(Job("pricing.linear", **facts, resumes=True), Group(), report)
    assert done is not None and done.folder.digest == whole.folder.digest
    assert report.said == ["resumed after epoch 3"]


def test_a_checkpoint_of_another_seed_is_not_taken(trained: Run, line_data: Path, tmp_path: Path) -> None:
    facts: dict[str, Any] = {"data": line_data, "models_dir": tmp_path / "models", "device": "cpu"}
    with pytest.raises(Interrupted):
        train(Job("pricing.linear", **facts), Group(), Ending(after=3))
    with pytest.raises(TrainingError, match="belongs to other data, options or seed"):
        trained("pricing.linear", line_data, seed=8, resumes=True)


def ended(data: Path, models: Path, **job: Any) -> None:
    """A training that was ended after three epochs."""
    with pytest.raises(Interrupted):
        train(Job("pricing.linear", data, models, device="cpu", **job), Group(), Ending(after=3))


@pytest.mark.parametrize(
    "changed",
    [
        {"renames": {"x": "y", "y": "x"}},
        {"given": {"learning_rate": "0.1"}},
        {"seed": 8},
        {"encoding": "gb18030"},
    ],
)
def test_a_checkpoint_is_of_one_reading_of_the_data(
    trained: Run, line_data: Path, tmp_path: Path, changed: dict[str, Any]
) -> None:
    ended(line_data, tmp_path / "models")
    with pytest.raises(TrainingError, match="the checkpoint belongs to other data, options or seed"):
        trained("pricing.linear", line_data, resumes=True, **changed)


@pytest.mark.parametrize("epochs", [2, 5])
def test_a_training_goes_on_to_more_epochs_or_ends_with_fewer(line_data: Path, tmp_path: Path, epochs: int) -> None:
    ended(line_data, tmp_path / "models", epochs=4)
    facts: dict[str, Any] = {"device": "cpu", "epochs": epochs, "resumes": True}
    report = Ending(after=-1)
    done = train(Job("pricing.linear", line_data, tmp_path / "models", **facts), Group(), report)
    assert done is not None and done.folder.made["notes"]["fit_epochs"] == max(3, epochs)
    assert report.said == ["resumed after epoch 3"]


@pytest.mark.parametrize("folder", [".checkpoints", "files"])
def test_a_full_disk_is_told_in_one_line(
    trained: Run, line_data: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.parent.name == folder:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(TrainingError) as refused:
        trained("pricing.linear", line_data, epochs=1)
    assert str(refused.value) == "--models-dir: cannot be written: No space left on device"


def test_a_checkpoint_that_can_be_gone_on_from_is_seen(line_data: Path, tmp_path: Path) -> None:
    job = Job("pricing.linear", line_data, tmp_path / "models")
    assert not has_checkpoint(job, 0)
    ended(line_data, tmp_path / "models")
    assert has_checkpoint(job, 0) and not has_checkpoint(job, time.time() + 60)


def test_few_rows_to_judge_by_are_told(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("x,y\n" + "".join(f"{n},{2 * n}\n" for n in range(60)))
    report = Ending(after=-1)
    train(Job("pricing.linear", tmp_path, tmp_path / "models", device="cpu", epochs=1), Group(), report)
    assert report.said == ["judged by 6 rows, fewer than 20: the metrics may be far off"]


def test_a_training_that_is_done_leaves_another_ones_checkpoint(trained: Run, line_data: Path, tmp_path: Path) -> None:
    ended(line_data, tmp_path / "models")
    trained("pricing.linear", line_data, seed=8)
    report = Ending(after=-1)
    done = train(Job("pricing.linear", line_data, tmp_path / "models", device="cpu", resumes=True), Group(), report)
    assert done is not None and report.said == ["resumed after epoch 3"]
    assert sorted(path.name for path in (tmp_path / "models" / "pricing.linear").iterdir()) == ["1", "2"]


def test_without_a_checkpoint_people_are_told_that_it_starts_anew(line_data: Path, tmp_path: Path) -> None:
    report = Ending(after=-1)
    train(Job("pricing.linear", line_data, tmp_path / "models", device="cpu", resumes=True), Group(), report)
    assert report.said == ["no checkpoint to resume: starting anew"]


def test_a_model_without_a_loop_has_nothing_to_resume(line_data: Path, tmp_path: Path) -> None:
    report = Ending(after=-1)
    given = {"algorithm": "trees", "target": "y", "trees": "5"}
    train(Job("pricing.demand", line_data, tmp_path / "models", given, device="cpu", resumes=True), Group(), report)
    assert report.said == ["nothing to resume: pricing.demand is fitted in one piece and keeps no checkpoint"]


def test_evaluation_has_the_baseline_of_the_training(trained: Run, line_data: Path) -> None:
    done = trained("pricing.linear", line_data)
    context = EvaluateContext(done.folder.files, 1, None)
    judged = find("pricing.linear").method("evaluate")(
        Job("pricing.linear", line_data, Path()).read(), lambda inputs: {"y": inputs["x"] * 0}, context
    )
    assert judged.metrics["baseline_mse"] == done.folder.metrics["baseline_mse"]


def test_recorded_examples_are_what_was_computed(trained: Run, line_data: Path) -> None:
    files = trained("pricing.linear", line_data).folder.files
    (example,) = json.loads((files / "examples.json").read_text())["examples"]
    assert len(example["inputs"]["x"]) == len(example["outputs"]["y"]) == 16


def test_a_model_is_found_with_its_settings() -> None:
    found = find("semantic.encoder")
    assert (found.distribution, found.settings.language) == ("mercato-semantic", "")
