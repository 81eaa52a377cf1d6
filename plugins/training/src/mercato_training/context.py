"""What a model's `train` and `evaluate` get besides the data: options, seed, device, the loop, a place for files."""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from safetensors.torch import save

from mercato_plugin import Example
from mercato_plugin.examples import write_examples
from mercato_training.checkpoints import Checkpoint
from mercato_training.data import Data
from mercato_training.errors import TrainingError, writing
from mercato_training.group import Group
from mercato_training.loop import Fitted, Fitting, Loss, Plan, Validate
from mercato_training.options import filled
from mercato_training.table import Array

Options = TypeVar("Options")
Item = TypeVar("Item")

EXAMPLES = "examples.json"
BASELINE = "baseline.json"

NAME = 32
"""Digits of an identity in the name of a checkpoint's file."""

_EPOCHS = re.compile(r"fit(_\d+)?_epochs")
"""What a fit notes of itself, which decides nothing of the next one."""


class Report(Protocol):
    """Who is told how far a training is."""

    def step(self, title: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` pieces of the step `title` are done."""

    def say(self, text: str) -> None:
        """One line for people."""


class Quiet:
    """Nobody is told: the processes that do not lead."""

    def step(self, title: str, done: int, total: int, note: str = "") -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


@dataclass(frozen=True)
class EvaluateContext:
    """What `evaluate` gets: the model folder's files, its version, the model's settings, and who is told."""

    files: Path
    version: int
    settings: Any
    report: Report = field(default_factory=Quiet)

    @property
    def baseline(self) -> Any:
        """The number or label that training has kept by `save_baseline`; None of a folder that has none."""
        path = self.files / BASELINE
        return json.loads(path.read_bytes())["value"] if path.is_file() else None


@dataclass
class TrainContext:
    """What `train` gets. `staging` becomes the model folder; `epochs` is None where the user left it to the model."""

    model: str
    staging: Path
    data: Data
    given: Mapping[str, str]
    settings: Any
    seed: int
    epochs: int | None
    device: torch.device
    group: Group
    report: Report
    checkpoints: Path
    resumes: bool = False
    notes: dict[str, Any] = field(default_factory=dict)
    _examples: list[Example] = field(default_factory=list)
    _options: Any = None
    _fits: list[Checkpoint] = field(default_factory=list)

    @property
    def files(self) -> Path:
        """The folder that `build` will read; `save` writes into it."""
        return self.staging / "files"

    def options(self, kind: type[Options]) -> Options:
        """The model's options, from `--set`. Raises TrainingError for a key that is not in the dataclass."""
        found = filled(kind, self.given, "--set")
        self._options = found
        return found

    def save(self, name: str, content: bytes) -> None:
        """Add a file. Raises TrainingError for a name that leaves the folder."""
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or name.startswith("/") or "\\" in name:
            raise TrainingError(f"{self.model}: save({name!r}): the name must stay inside the files folder")
        if self.group.leads:
            target = self.files.joinpath(*parts)
            with writing("--models-dir"):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)

    def save_tensors(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Add a safetensors file."""
        self.save(name, save({key: value.detach().cpu().contiguous() for key, value in tensors.items()}))

    def save_json(self, name: str, value: Any) -> None:
        """Add a JSON file."""
        self.save(name, json.dumps(value, ensure_ascii=False, indent=1).encode())

    def save_baseline(self, value: float | str) -> None:
        """Keep what a model that has learned nothing always answers, for `evaluate` to score the same one."""
        self.save_json(BASELINE, {"value": value})

    def save_estimator(self, name: str, estimator: Any, features: Array, *, input: str, output: str) -> None:
        """Add a fitted scikit-learn estimator as ONNX, for no pickle is written; `build` returns the file's path.

        `features` are rows of its own X, float64 of shape (rows, columns); the graph takes them as `input` and gives
        `output`, (rows, 1). Raises TrainingError when it cannot be converted.
        """
        from mercato_training.estimators import to_onnx  # its tools take seconds to import

        self.save(name, to_onnx(estimator, features, input, output, self.model))

    def record(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Keep a request with what was computed for it here, for the certificate to hold the served model against."""
        self._examples.append(Example(dict(inputs), outputs=dict(outputs)))

    def note(self, **facts: Any) -> None:
        """Facts for the manifest, such as the number of terms; plain JSON values."""
        self.notes |= facts

    def each(self, title: str, items: Iterable[Item], total: int) -> Iterator[Item]:
        """The items, with a bar of that title."""
        for done, item in enumerate(items, start=1):
            yield item
            self.report.step(title, done, total)

    def computed(
        self,
        title: str,
        rows: int,
        compute: Callable[[Array], torch.Tensor],
        *,
        batch_rows: int = 64,
        sizes: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """What `compute` gives for the numbers of some rows, for all of them; the processes share the work.

        With `sizes`, one per row, rows of like size are computed together, so that texts are padded little.
        """
        own = self.group.share(torch.arange(rows)).numpy()
        order = np.argsort(np.asarray(sizes)[own], kind="stable") if sizes is not None else np.arange(len(own))
        starts = range(0, len(own), batch_rows)
        parts = [compute(own[order[start : start + batch_rows]]) for start in self.each(title, starts, len(starts))]
        # A process without a row of its own gives none, of the others' shape.
        found = torch.cat(parts) if parts else compute(np.zeros(1, np.int64))[:0]
        return self.group.joined(found[np.argsort(order)], rows)

    def fit(
        self,
        module: torch.nn.Module,
        rows: int,
        loss: Loss,
        validate: Validate | None = None,
        *,
        epochs: int,
        learning_rate: float,
        batch_rows: int = 256,
        patience: int = 5,
        weight_decay: float = 0.0,
    ) -> Fitted:
        """Fit a module with AdamW and leave it at its best validation score, in `eval` mode.

        `loss` gives one loss per row for the numbers of some rows, `validate` a score of which less is better.
        `--epochs` wins over `epochs`. Raises TrainingError when the fit diverges.
        """
        plan = Plan(self.epochs or epochs, batch_rows, learning_rate, patience, self.seed, weight_decay)
        module.to(self.device)
        self._fits.append(self._checkpoint(module, plan, rows))
        fitting = Fitting(module, plan, self.group, self._fits[-1])
        if self.resumes:
            self._resume(fitting)
        title = f"fit {len(self._fits)}" if len(self._fits) > 1 else "fit"
        fitted = fitting.run(rows, loss, validate, lambda *facts: self._tell(title, *facts))
        if fitted.epochs < plan.epochs:
            self._tell(title, fitted.epochs, fitted.epochs, fitted.score)
        self.note(**{f"{title.replace(' ', '_')}_epochs": fitted.epochs})
        return fitted

    def _tell(self, title: str, done: int, total: int, score: float) -> None:
        self.report.step(title, done, total, f"best {score:.4g}")

    def _resume(self, fitting: Fitting) -> None:
        """Only the first fit of a training can lack a checkpoint that somebody expects."""
        if len(self._fits) == 1 and not self._fits[0].path.is_file():
            if any(self.checkpoints.glob("*.safetensors")):
                raise TrainingError(
                    "--resume: the checkpoint belongs to other data, options or seed; give the same ones, or train "
                    "anew without --resume"
                )
            self.report.say("no checkpoint to resume: starting anew")
        elif epoch := fitting.resume():
            self.report.say(f"resumed after epoch {epoch}")

    def _checkpoint(self, module: torch.nn.Module, plan: Plan, rows: int) -> Checkpoint:
        """One per fit; its identity, which names its file, covers all that decides the fit."""
        facts = {
            "model": self.model,
            "fit": len(self._fits),
            "plan": {**asdict(plan), "epochs": None},  # how long it lasts decides no epoch
            "rows": rows,
            "data": self.data.identity,
            "options": repr(self._options),
            "settings": repr(self.settings),
            "notes": {name: value for name, value in self.notes.items() if not _EPOCHS.fullmatch(name)},
            "shapes": {name: list(value.shape) for name, value in module.state_dict().items()},
        }
        identity = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
        return Checkpoint(self.checkpoints / f"{identity[:NAME]}.safetensors", identity)

    def clear(self) -> None:
        """Take away this training's own checkpoints: it is done. Those of others stay."""
        for checkpoint in self._fits:
            checkpoint.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # there is none, or another training has one there
            self.checkpoints.rmdir()

    @property
    def fits(self) -> int:
        """How many fits there were."""
        return len(self._fits)

    def finish(self) -> None:
        """Write the recorded examples."""
        if self._examples and self.group.leads:
            with writing("--models-dir"):
                self.files.mkdir(parents=True, exist_ok=True)
                write_examples(self.files / EXAMPLES, self._examples)

    @property
    def options_used(self) -> dict[str, Any]:
        """The options as they were filled, as plain values."""
        return {} if self._options is None else {name: _plain(value) for name, value in asdict(self._options).items()}


def _plain(value: Any) -> Any:
    """For JSON; of a path its last name alone."""
    if isinstance(value, Path):
        return value.name
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
