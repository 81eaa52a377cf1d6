"""The training loop: it finds what there is to find, stops in time, and goes on where it was ended."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mercato_training import Group, TrainingError
from mercato_training.checkpoints import Checkpoint
from mercato_training.loop import Fitting, Plan

X = torch.linspace(-1, 1, 200, dtype=torch.float64)[:, None]
Y = 3 * X + 0.5


class Ended(Exception):
    """Somebody ended the training."""


def line() -> torch.nn.Linear:
    torch.manual_seed(1)
    return torch.nn.Linear(1, 1, dtype=torch.float64)


def losses(module: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
    return torch.square(module(X[rows]) - Y[rows])[:, 0]


def score(module: torch.nn.Module) -> float:
    with torch.no_grad():
        return float(torch.square(module(X) - Y).mean())


def plan(**changed: float) -> Plan:
    facts = {"epochs": 40, "batch_rows": 32, "learning_rate": 0.1, "patience": 40, "seed": 7} | changed
    return Plan(**facts)  # type: ignore[arg-type]


def fitting(module: torch.nn.Module, folder: Path, identity: str = "same", **changed: float) -> Fitting:
    return Fitting(module, plan(**changed), Group(), Checkpoint(folder / "fit.safetensors", identity))


def quiet(done: int, total: int, best: float) -> None:
    """Hears and says nothing."""


def test_a_line_is_found(tmp_path: Path) -> None:
    module = line()
    fitted = fitting(module, tmp_path).run(200, losses, score, quiet)
    assert fitted.epochs == 40 and fitted.score == pytest.approx(score(module))
    assert module.weight.item() == pytest.approx(3, abs=0.01) and module.bias.item() == pytest.approx(0.5, abs=0.01)
    assert not module.training


def test_it_stops_when_the_score_falls_no_more_and_keeps_the_best(tmp_path: Path) -> None:
    scores = iter([5.0, 4.0, 3.0, 3.5, 3.5, 3.5])
    seen: list[float] = []

    def watched(fitted: torch.nn.Module) -> float:
        seen.append(fitted.state_dict()["weight"].item())
        return next(scores)

    module = line()
    fitted = fitting(module, tmp_path, patience=3).run(200, losses, watched, quiet)
    assert fitted.epochs == 6 and fitted.score == 3.0
    assert module.weight.item() == seen[2]


def test_without_validation_the_last_state_counts(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    module = line()
    fitting(module, tmp_path, epochs=5).run(200, losses, None, lambda done, total, best: told.append((done, total)))
    assert told == [(epoch, 5) for epoch in range(1, 6)]
    assert module.weight.item() != line().weight.item()


@pytest.mark.parametrize("ends_after", [1, 7])
def test_a_resumed_fit_ends_where_an_uninterrupted_one_does(tmp_path: Path, ends_after: int) -> None:
    def ending(done: int, total: int, best: float) -> None:
        if done == ends_after:
            raise Ended

    whole = line()
    fitting(whole, tmp_path / "whole").run(200, losses, score, quiet)
    with pytest.raises(Ended):
        fitting(line(), tmp_path / "parts").run(200, losses, score, ending)
    resumed = line()
    again = fitting(resumed, tmp_path / "parts")
    assert again.resume() == ends_after
    again.run(200, losses, score, quiet)
    assert torch.equal(resumed.weight, whole.weight) and torch.equal(resumed.bias, whole.bias)


def test_a_resumed_fit_with_dropout_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    def net() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Dropout(0.5), line())

    def ending(done: int, total: int, best: float) -> None:
        if done == 3:
            raise Ended

    whole, resumed = net(), net()
    fitting(whole, tmp_path / "whole", epochs=6).run(200, losses, score, quiet)
    with pytest.raises(Ended):
        fitting(net(), tmp_path / "parts", epochs=6).run(200, losses, score, ending)
    torch.manual_seed(5)
    again = fitting(resumed, tmp_path / "parts", epochs=6)
    assert again.resume() == 3
    again.run(200, losses, score, quiet)
    assert all(torch.equal(resumed.state_dict()[name], value) for name, value in whole.state_dict().items())


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    fitting(line(), tmp_path, epochs=1).run(200, losses, score, quiet)
    with pytest.raises(TrainingError, match="the checkpoint belongs to other data, options or seed"):
        fitting(line(), tmp_path, identity="other").resume()


@pytest.mark.parametrize("content", [b"", b"no safetensors", b"\xff" * 64])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fit.safetensors").write_bytes(content)
    with pytest.raises(TrainingError, match="--resume: the checkpoint cannot be read"):
        fitting(line(), tmp_path).resume()


def test_without_a_checkpoint_it_begins_anew(tmp_path: Path) -> None:
    assert fitting(line(), tmp_path).resume() == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_fit_that_diverges_is_told(tmp_path: Path, value: float) -> None:
    with pytest.raises(TrainingError, match="the fit diverged in epoch 1: lower the learning rate"):
        fitting(line(), tmp_path).run(200, losses, lambda module: value, quiet)


Loss = Callable[[torch.nn.Module, torch.Tensor], torch.Tensor]


class Half(Group):
    """One of two processes that are run one after the other."""

    size = 2

    def __init__(self, rank: int) -> None:
        self.rank = rank


def test_shares_cover_every_batch_once() -> None:
    batch = torch.arange(7)
    shares = [Half(rank).share(batch).tolist() for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == batch.tolist()
