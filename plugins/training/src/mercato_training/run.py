"""One training from its data to a model folder, as each of its processes runs it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mercato_plugin import FolderError, ModelFolder, publish_folder, staged_folder
from mercato_training.context import Report, TrainContext
from mercato_training.data import Data
from mercato_training.errors import TrainingError, writing
from mercato_training.finding import Trainable, find
from mercato_training.group import Group, device_of, peak_bytes
from mercato_training.hashing import read_salt
from mercato_training.metrics import FEW, Evaluation, few

TOOLS = ("mercato-training", "torch", "scikit-learn", "numpy", "pyarrow")


@dataclass(frozen=True)
class Job:
    """What was asked for; plain values, so that every process of a training gets the same."""

    model: str
    data: Path
    models_dir: Path
    given: Mapping[str, str] = field(default_factory=dict)
    renames: Mapping[str, str] = field(default_factory=dict)
    encoding: str = "utf-8"
    seed: int = 7
    epochs: int | None = None
    device: str = "auto"
    processes: int = 1
    hash_users: Path | None = None
    resumes: bool = False

    @property
    def checkpoints(self) -> Path:
        """The folder of what a training leaves to go on from."""
        return self.models_dir / self.model / ".checkpoints"

    def read(self) -> Data:
        """The data, not yet read. Raises TrainingError for a salt that is none."""
        user_hash = read_salt(self.hash_users) if self.hash_users else None
        return Data(self.data, self.renames, self.encoding, user_hash)


@dataclass(frozen=True)
class Trained:
    """What came of a training: the folder, its evaluation, and what it took; `data` knows what was dropped."""

    folder: ModelFolder
    evaluation: Evaluation
    seconds: float
    peak_bytes: int
    data: Data


def train(job: Job, group: Group, report: Report) -> Trained | None:
    """Train the model; None in a process that does not lead. Raises TrainingError."""
    start = time.monotonic()
    found = find(job.model)
    run = found.method("train")
    device = device_of(job.device, group.rank, group.size)
    _seed(job.seed)
    with _staging(job, group) as staging:
        context = _context(job, found, group, report, staging, device)
        evaluation = run(context.data, context)
        if not isinstance(evaluation, Evaluation):
            got = type(evaluation).__name__
            raise TrainingError(f"model {job.model!r}: train returned {got}, expected mercato_training.Evaluation")
        context.data.check_people()
        if job.resumes and not context.fits:
            report.say(f"nothing to resume: {job.model} is fitted in one piece and keeps no checkpoint")
        context.finish()
        if not group.leads:
            return None
        seconds, peak = time.monotonic() - start, peak_bytes()
        made = _made(job, found, context, evaluation, device, seconds, peak)
        with writing("--models-dir"):
            folder = publish_folder(staging, job.models_dir, job.model, evaluation.metrics, made)
    if evaluation.rows < FEW:
        report.say(few(evaluation.rows))
    context.clear()
    return Trained(folder, evaluation, seconds, peak, context.data)


def has_checkpoint(job: Job, since: float) -> bool:
    """Whether a training of the job that began at `since`, seconds since 1970, has left what it can go on from."""
    found = [path.stat().st_mtime for path in job.checkpoints.glob("*.safetensors")]
    return any(job.resumes or written >= since - 1.0 for written in found)  # files' clocks are a little late


def _context(
    job: Job, found: Trainable, group: Group, report: Report, staging: Path, device: torch.device
) -> TrainContext:
    return TrainContext(
        model=job.model,
        staging=staging,
        data=job.read(),
        given=job.given,
        settings=found.settings,
        seed=job.seed,
        epochs=job.epochs,
        device=device,
        group=group,
        report=report,
        checkpoints=job.checkpoints,
        resumes=job.resumes,
    )


@contextmanager
def _staging(job: Job, group: Group) -> Iterator[Path]:
    """A folder beside the versions, gone unless it was published; of a process that does not lead, the group's."""
    if group.scratch is not None and not group.leads:
        own = group.scratch / f"staging-{group.rank}"
        (own / "files").mkdir(parents=True)
        yield own
        return
    try:
        with staged_folder(job.models_dir, job.model) as staging:
            yield staging
    except FolderError as error:
        raise TrainingError(f"--models-dir: {error}") from None


def _made(
    job: Job,
    found: Trainable,
    context: TrainContext,
    evaluation: Evaluation,
    device: torch.device,
    seconds: float,
    peak: int,
) -> dict[str, Any]:
    """What the manifest tells of the training; no path, and nothing of anybody's."""
    digests = context.data.digests
    tables = {
        name: {"rows": table.rows, "read": table.read, "dropped": dict(table.dropped), "sha256": digests[name]}
        for name, table in context.data.tables.items()
    }
    return {
        "plugin": {"name": found.distribution, "version": found.version},
        "tools": {name: version(name) for name in TOOLS},
        "seed": job.seed,
        "epochs": job.epochs,
        "device": device.type,
        "processes": job.processes,
        "options": context.options_used,
        "data": tables,
        "users_hashed": context.data.are_people_hashed,
        "test_rows": evaluation.rows,
        "seconds": round(seconds, 2),
        "peak_bytes": peak,
        "notes": context.notes,
    }


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed % (1 << 32))  # what scikit-learn draws from
