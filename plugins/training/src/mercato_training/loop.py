"""The training loop: epochs of batches, early stopping, checkpoints, one process or several."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from mercato_training.checkpoints import Checkpoint, Progress, Tensors
from mercato_training.errors import TrainingError
from mercato_training.group import Group

Loss = Callable[[torch.nn.Module, torch.Tensor], torch.Tensor]
"""From the module and the numbers of some rows to one loss per row, of shape (rows,)."""

Validate = Callable[[torch.nn.Module], float]
"""What the module scores on rows that are not fitted; lower is better."""

OnEpoch = Callable[[int, int, float], None]
"""Hears how many epochs of how many are done, and the score."""


@dataclass(frozen=True)
class Plan:
    """How to fit. `patience` is the number of epochs without a better score after which it ends."""

    epochs: int
    batch_rows: int
    learning_rate: float
    patience: int
    seed: int
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Fitted:
    """What came of it: epochs that ran, and the best score; NaN without validation."""

    epochs: int
    score: float


class Fitting:
    """One fit of one module. Every process of the group runs it, with the same plan, on the same rows."""

    def __init__(self, module: torch.nn.Module, plan: Plan, group: Group, checkpoint: Checkpoint) -> None:
        self._module = module
        self._plan = plan
        self._group = group
        self._checkpoint = checkpoint
        self._optimizer = torch.optim.AdamW(module.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
        self._best = _copied(module)
        self._progress = Progress()

    def resume(self) -> int:
        """Go on where the checkpoint stands; gives its epoch, 0 without one. Raises TrainingError."""
        found = self._checkpoint.read()
        if found is None:
            return 0
        self._progress, module, self._best, states = found
        self._module.load_state_dict(module)
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": states})
        return self._progress.epoch

    def run(self, rows: int, loss: Loss, validate: Validate | None, on_epoch: OnEpoch) -> Fitted:
        """Fit to rows 0 to `rows`; the module is at its best score then. Raises TrainingError when it diverges."""
        parallel = self._group.parallel(self._module)
        progress = self._progress
        while progress.epoch < self._plan.epochs and progress.stale < self._plan.patience:
            self._module.train()
            self._seed()
            mean = self._epoch(parallel, rows, loss)
            progress.epoch += 1
            self._judge(mean if validate is None else self._score(validate), keeps=validate is not None)
            if self._group.leads:
                self._checkpoint.write(progress, _state(self._module), self._best, self._optimizer_state())
            on_epoch(progress.epoch, self._plan.epochs, progress.best)
        self._module.load_state_dict(self._best)
        self._module.eval()
        return Fitted(progress.epoch, progress.best)

    def _seed(self) -> None:
        """What a module draws, such as for dropout, does not depend on what was drawn in the epochs before."""
        epoch = self._plan.seed * 100_003 + self._progress.epoch
        torch.manual_seed(epoch * self._group.size + self._group.rank)

    def _epoch(self, parallel: torch.nn.Module, rows: int, loss: Loss) -> float:
        """One pass over all rows, shuffled by the seed and the epoch's number; gives the mean loss."""
        random = torch.Generator().manual_seed(self._plan.seed * 100_003 + self._progress.epoch)
        order = torch.randperm(rows, generator=random)
        total = 0.0
        for start in range(0, rows, self._plan.batch_rows):
            total += self._step(parallel, order[start : start + self._plan.batch_rows], loss)
        return self._group.agreed(total / rows * self._group.size)

    def _step(self, parallel: torch.nn.Module, batch: torch.Tensor, loss: Loss) -> float:
        """One batch; gives the sum of this process's losses.

        The processes' gradients are averaged, so each scales its sum for the average to be the batch's mean. One that
        has no row takes another's without counting it: all have to be at the averaging.
        """
        own = self._group.share(batch)
        losses = loss(parallel, own) if len(own) else loss(parallel, batch[:1]) * 0.0
        self._optimizer.zero_grad()
        (losses.sum() * (self._group.size / len(batch))).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return float(losses.detach().sum())

    def _score(self, validate: Validate) -> float:
        self._module.eval()
        with torch.no_grad():
            return self._group.agreed(validate(self._module))

    def _judge(self, score: float, *, keeps: bool) -> None:
        """Note the score. Without validation every epoch is the best: a falling loss proves nothing."""
        if score != score or score == float("inf"):
            raise TrainingError(f"the fit diverged in epoch {self._progress.epoch}: lower the learning rate")
        if not keeps or score < self._progress.best:
            self._progress.best, self._progress.stale = score, 0
            self._best = _copied(self._module)
        else:
            self._progress.stale += 1

    def _optimizer_state(self) -> dict[str, dict[str, torch.Tensor]]:
        return {str(number): state for number, state in self._optimizer.state_dict()["state"].items()}


def _state(module: torch.nn.Module) -> Tensors:
    return dict(module.state_dict())


def _copied(module: torch.nn.Module) -> Tensors:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
