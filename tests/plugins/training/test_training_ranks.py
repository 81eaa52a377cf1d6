"""The processes of one training: one that ends early ends all, an interrupt ends all, and nothing is left."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from mercato_training import Job, TrainingError
from mercato_training.group import device_of, share_threads
from mercato_training.ranks import group_of

JOB = Job("pricing.linear", Path("absent"), Path("models"), device="cpu", processes=2)
BOUND = 60.0
"""Seconds within which a test's own processes must be gone; what is tested is far below torch's 30 minutes."""


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """A run that was started in the background ignores SIGINT, and so would all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the processes meet; nothing may be left there."""
    (tmp_path / "meetings").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "meetings"))
    yield tmp_path
    assert not list((tmp_path / "meetings").iterdir())


def others(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Have every further process of a training run this script instead, which gets the same arguments."""
    program = folder / "other"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo cannot import; exit 3", "process 1 of the training ended: cannot import"),
        ("exit 1", "process 1 of the training ended: it said nothing"),
        ("kill -9 $$", "process 1 of the training ended: it said nothing"),
        ("echo prices.csv: no row; exit 2", "prices.csv: no row"),
        ('touch "$(dirname "$4")/1.ready"; echo late; exit 1', "process 1 of the training ended: late"),
    ],
)
def test_a_process_that_ends_before_all_have_met_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    others(folder, monkeypatch, script)
    with pytest.raises(TrainingError) as refused, group_of(JOB):
        raise AssertionError("they have not met")
    assert str(refused.value) == says


@pytest.mark.parametrize("ready", ["", 'touch "$(dirname "$4")/1.ready";'], ids=["importing", "meeting"])
def test_an_interrupt_before_all_have_met_ends_them(folder: Path, monkeypatch: pytest.MonkeyPatch, ready: str) -> None:
    others(folder, monkeypatch, f"{ready} echo $$ > {folder}/number; kill -INT $PPID; exec sleep 600")
    with pytest.raises(KeyboardInterrupt), group_of(JOB):
        raise AssertionError("they have not met")
    assert is_gone(int((folder / "number").read_text()))


LEADER = """
import sys, tempfile, torch
from pathlib import Path
from mercato_training import Job
from mercato_training.ranks import group_of

tempfile.tempdir = sys.argv[1]
sys.executable = sys.argv[2]
with group_of(Job("pricing.linear", Path("absent"), Path("models"), device="cpu", processes=2)) as group:
    print("met", flush=True)
    group.joined(torch.zeros(1, 2), 2)
    group.joined(torch.zeros(1, 2), 2)
"""

OTHER = """
import os, signal, sys, time, torch
from pathlib import Path
from mercato_training.group import Processes
from mercato_training.others import ready_file

meeting = Path(sys.argv[4])
ready_file(meeting, 1).touch()
Processes(1, 2, meeting, torch.device("cpu")).joined(torch.zeros(1, 2), 2)
{ends}
"""

HANGS = "os.kill(os.getppid(), signal.SIGINT); time.sleep(600)"
DIES = "print('out of memory', flush=True); os._exit(1)"


@pytest.mark.parametrize(
    ("ends", "says"), [(HANGS, "KeyboardInterrupt"), (DIES, "process 1 of the training ended: out of memory")]
)
def test_a_fit_that_waits_for_another_process_can_be_ended(folder: Path, ends: str, says: str) -> None:
    (folder / "other.py").write_text(OTHER.format(ends=ends))
    program = folder / "other"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {folder}/other.py "$@"\n')
    program.chmod(0o755)
    command = [sys.executable, "-c", LEADER, str(folder / "meetings"), str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BOUND)
    assert done.stdout == "met\n" and done.returncode in (1, -signal.SIGINT)
    assert says in done.stderr.splitlines()[-1]


SHARES = """
import sys, torch
from pathlib import Path
from safetensors.torch import save_file
from mercato_training import Group
from mercato_training.checkpoints import Checkpoint
from mercato_training.group import Processes
from mercato_training.loop import Fitting, Plan

folder, rank = Path(sys.argv[1]), int(sys.argv[2])
group = Group() if rank < 0 else Processes(rank, 2, folder / "meeting", torch.device("cpu"))
torch.manual_seed(1)
module = torch.nn.Linear(3, 1, dtype=torch.float64)
x = torch.randn(5, 3, dtype=torch.float64)
y = torch.randn(5, dtype=torch.float64) * 9
plan = Plan(epochs=3, batch_rows=2, learning_rate=0.1, patience=9, seed=7)
fitting = Fitting(module, plan, group, Checkpoint(folder / f"{rank}.checkpoint", ""))
fitting.run(5, lambda fitted, rows: torch.square(fitted(x[rows])[:, 0] - y[rows]), None, lambda *_: None)
group.close()
save_file(module.state_dict(), folder / f"{rank}.safetensors")
"""


def test_a_last_batch_of_one_row_has_the_gradient_of_one_process(folder: Path) -> None:
    commands = [[sys.executable, "-c", SHARES, str(folder), str(rank)] for rank in (-1, 0, 1)]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(BOUND) for process in processes] == [0, 0, 0]
    alone, *shared = (load_file(folder / f"{rank}.safetensors") for rank in (-1, 0, 1))
    for found in shared:
        assert all(np.allclose(found[name], value, rtol=1e-12, atol=0) for name, value in alone.items())


def test_every_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    for name in ("auto", "cuda"):
        with pytest.raises(TrainingError, match="--processes: got 2, expected at most 1, a GPU for each; give fewer"):
            device_of(name, 0, 2)
    assert device_of("cpu", 1, 2).type == "cpu"


def test_cores_are_shared_where_nobody_tells_which_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", asked.append)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    share_threads(4)
    assert asked == [2]
