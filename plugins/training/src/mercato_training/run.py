"""One training from its data to a model folder, as each of its processes runs it."""

import shutil
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
from mercato_training.errors import TrainingError
from mercato_training.finding import Trainable, find
from mercato_training.group import Group, device_of, peak_bytes
from mercato_training.hashing import read_salt
from mercato_training.metrics import Evaluation

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
    device = device_of(job.device, group.rank)
    _seed(job.seed)
    with _staging(job) as staging:
        context = _context(job, found, group, report, staging, device)
        evaluation = run(context.data, context)
        if not isinstance(evaluation, Evaluation):
            got = type(evaluation).__name__
            raise TrainingError(f"model {job.model!r}: train returned {got}, expected mercato_training.Evaluation")
        context.finish()
        if not group.leads:
            return None
        seconds, peak = time.monotonic() - start, peak_bytes()
        made = _made(job, found, context, evaluation, device, seconds, peak)
        folder = publish_folder(staging, job.models_dir, job.model, evaluation.metrics, made)
    shutil.rmtree(context.checkpoints, ignore_errors=True)
    return Trained(folder, evaluation, seconds, peak, context.data)


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
        checkpoints=job.models_dir / job.model / ".checkpoints",
        resumes=job.resumes,
    )


@contextmanager
def _staging(job: Job) -> Iterator[Path]:
    """A folder beside the versions, gone unless it was published."""
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
        "users_hashed": job.hash_users is not None,
        "test_rows": evaluation.rows,
        "seconds": round(seconds, 2),
        "peak_bytes": peak,
        "notes": context.notes,
    }


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed % (1 << 32))  # what scikit-learn draws from
