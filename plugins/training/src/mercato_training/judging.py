"""Judging served models on held-out data: quality by each model's own `evaluate`, speed and size beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mercato_client import Client
from mercato_plugin import FolderError, ModelFolder, folder_versions, read_folder
from mercato_training.context import EvaluateContext, Quiet, Report
from mercato_training.data import Data
from mercato_training.errors import TrainingError
from mercato_training.finding import Trainable, find
from mercato_training.metrics import FEW, Evaluation, few
from mercato_training.served import Speed, served, server
from mercato_training.texts import counted


@dataclass(frozen=True)
class Target:
    """One version to judge."""

    found: Trainable
    folder: ModelFolder

    @property
    def name(self) -> str:
        """Such as `reviews.intent 3`."""
        return f"{self.found.name} {self.folder.version}"


@dataclass(frozen=True)
class Judged:
    """What one version scored; sizes are bytes of the model folder's files and of memory on the server."""

    target: Target
    evaluation: Evaluation
    speed: Speed
    file_bytes: int
    memory_bytes: int


def targets(names: Sequence[str], models_dir: Path) -> list[Target]:
    """What `MODEL` (its newest version) or `MODEL:VERSION` means. Raises TrainingError."""
    return [_target(name, models_dir) for name in names]


def judge(
    chosen: Sequence[Target], data: Data, models_dir: Path, running: str | None, report: Report | None = None
) -> list[Judged]:
    """Serve the versions, or ask the server at the address `running`, and score each. Raises TrainingError."""
    told = report or Quiet()
    if running is not None:
        with Client(running, timeout=60.0) as client:
            return [_judged(target, data, client, told) for target in chosen]
    versions: dict[str, list[int]] = {}
    for target in chosen:
        versions.setdefault(target.found.name, []).append(target.folder.version)
    distributions = sorted({target.found.distribution for target in chosen})
    told.say(f"starting a server with {counted(len(chosen), 'model version')}")
    with server(models_dir, versions, distributions) as client:
        return [_judged(target, data, client, told) for target in chosen]


def _judged(target: Target, data: Data, client: Client, report: Report) -> Judged:
    asked = served(client, target.found.name, target.folder.version, report)
    context = EvaluateContext(target.folder.files, target.folder.version, target.found.settings, report)
    evaluation = target.found.method("evaluate")(data, asked.predict, context)
    if not isinstance(evaluation, Evaluation):
        got = type(evaluation).__name__
        raise TrainingError(f"model {target.name}: evaluate returned {got}, expected mercato_training.Evaluation")
    if evaluation.rows < FEW:
        report.say(f"{target.name}: {few(evaluation.rows)}")
    file_bytes = sum(entry.nbytes for entry in target.folder.entries)
    return Judged(target, evaluation, asked.speed(), file_bytes, asked.memory_bytes)


def _target(text: str, models_dir: Path) -> Target:
    name, _, number = text.partition(":")
    found = find(name)
    versions = folder_versions(models_dir, name)
    if not versions:
        text = f"model {name!r} has no trained version in {models_dir.name!r}; train it: mercato train {name}"
        raise TrainingError(text)
    if number and not (number.isdecimal() and int(number) in versions):
        have = ", ".join(map(str, versions))
        raise TrainingError(f"{text}: model {name!r} has no version {number!r}; it has {have}")
    try:
        folder = read_folder(models_dir, name, int(number) if number else versions[-1])
        folder.verify()
    except FolderError as error:
        raise TrainingError(str(error)) from None
    return Target(found, folder)
