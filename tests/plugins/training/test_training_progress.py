"""What people see of a training that does not write to a terminal, and of one that they end."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from rich.console import Console

from mercato_training import Job
from mercato_training.commands.progress import Bars
from mercato_training.commands.train import interruptible


def test_elsewhere_a_line_stands_now_and_then_and_at_the_end() -> None:
    now: Iterator[float] = iter(range(0, 1000, 4))
    file = io.StringIO()
    with Bars(Console(file=file, width=80), clock=lambda: next(now)) as bars:
        for epoch in range(1, 8):
            bars.step("fit", epoch, 7, "best 0.5")
    lines = file.getvalue().splitlines()
    assert lines[-1] == "fit: 7/7 best 0.5" and 2 <= len(lines) < 7
    assert lines[0] == "fit: 3/7 best 0.5"


@pytest.mark.parametrize(
    ("has_checkpoint", "says"),
    [(True, "mercato: interrupted; go on with --resume\n"), (False, "mercato: interrupted\n")],
)
def test_who_ends_a_training_is_told_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], has_checkpoint: bool, says: str
) -> None:
    job = Job("a.b", tmp_path, tmp_path)
    with pytest.raises(typer.Exit) as ended, interruptible(job):
        if has_checkpoint:
            job.checkpoints.mkdir(parents=True)
            (job.checkpoints / "1.safetensors").touch()
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130 and capsys.readouterr().err == says
