"""What a training leaves after each epoch, so that it can go on where it was ended: one safetensors file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from mercato_training.errors import TrainingError, writing

Tensors = dict[str, torch.Tensor]


@dataclass
class Progress:
    """How far a fit is: epochs done, the best score so far, and the epochs since it."""

    epoch: int = 0
    best: float = float("inf")
    stale: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """A file that holds a fit's module, best module and optimizer.

    `identity` is a hash of all that the fit depends on; a file of another one is refused.
    """

    path: Path
    identity: str

    def write(self, progress: Progress, module: Tensors, best: Tensors, optimizer: Mapping[str, Any]) -> None:
        """Put the state in the place of the one before, in one step."""
        tensors = {f"module.{name}": value for name, value in module.items()}
        tensors |= {f"best.{name}": value for name, value in best.items()}
        tensors |= {f"optimizer.{n}.{key}": torch.as_tensor(v) for n, s in optimizer.items() for key, v in s.items()}
        facts = {"identity": self.identity, "progress": json.dumps(asdict(progress))}
        content = save({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, facts)
        with writing("--models-dir"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self.path.with_suffix(".partial")
            fresh.write_bytes(content)
            fresh.rename(self.path)

    def read(self) -> tuple[Progress, Tensors, Tensors, dict[int, dict[str, torch.Tensor]]] | None:
        """Progress, module, best module and the optimizer's state; None where there is no file.

        Raises TrainingError for a file that is damaged or belongs to another training.
        """
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                facts = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        except (SafetensorError, OSError):
            raise TrainingError("--resume: the checkpoint cannot be read; train anew without --resume") from None
        if facts.get("identity") != self.identity:
            raise TrainingError(
                "--resume: the checkpoint belongs to other data, options or seed; give the same ones, or train anew "
                "without --resume"
            )
        progress = Progress(**json.loads(facts["progress"]))
        return progress, _under("module.", tensors), _under("best.", tensors), _states(_under("optimizer.", tensors))


def _under(prefix: str, tensors: Tensors) -> Tensors:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _states(tensors: Tensors) -> dict[int, dict[str, torch.Tensor]]:
    states: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        states.setdefault(int(number), {})[key] = value
    return states
