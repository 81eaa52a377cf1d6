"""The further processes of a training: started by the first, fed the same job, ended with it.

`python -m mercato_training.ranks` is one of them.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from mercato_training.context import Quiet
from mercato_training.errors import TrainingError
from mercato_training.group import Group, Processes, device_of, share_threads
from mercato_training.run import Job, train

END_SECONDS = 30.0
"""Longest wait for a process that has nothing left to do."""

MAX_PROCESSES = 64


@contextmanager
def group_of(job: Job) -> Iterator[Group]:
    """The first process's group; the others run the same job meanwhile. Raises TrainingError when one of them ends."""
    if not 1 <= job.processes <= MAX_PROCESSES:
        raise TrainingError(f"--processes: got {job.processes}, expected 1 to {MAX_PROCESSES}")
    if job.processes == 1:
        yield Group()
        return
    with tempfile.TemporaryDirectory(prefix="mercato-training-") as folder, _others(job, Path(folder)) as others:
        share_threads(job.processes)
        try:
            group = Processes(0, job.processes, Path(folder) / "meeting", device_of(job.device, 0))
            yield group
            group.close()
        except RuntimeError as error:  # torch.distributed: another process is gone
            others.blame(error)
        others.end()


class Others:
    """The started processes, each with a file for what it prints."""

    def __init__(self, processes: list[subprocess.Popen[bytes]], noises: list[IO[bytes]]) -> None:
        self._processes = processes
        self._noises = noises

    def blame(self, error: RuntimeError) -> None:
        """Raise TrainingError for the process that ended first, else what the first process met."""
        for rank, process in enumerate(self._processes, start=1):
            try:
                code = process.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                continue
            if code:
                raise TrainingError(f"process {rank} of the training ended: {self._last_line(rank)}") from error
        raise error

    def end(self) -> None:
        """Wait for processes that are done."""
        for process in self._processes:
            process.wait(timeout=END_SECONDS)

    def kill(self) -> None:
        """End what still runs."""
        for process, noise in zip(self._processes, self._noises, strict=True):
            process.kill()
            process.wait()
            noise.close()
            if process.stdin is not None:
                process.stdin.close()

    def _last_line(self, rank: int) -> str:
        noise = self._noises[rank - 1]
        noise.seek(0)
        lines = noise.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")[:300]


@contextmanager
def _others(job: Job, folder: Path) -> Iterator[Others]:
    noises: list[IO[bytes]] = [(folder / f"{rank}.log").open("w+b") for rank in range(1, job.processes)]
    started = [_started(job, rank, folder / "meeting", noise) for rank, noise in enumerate(noises, start=1)]
    others = Others(started, noises)
    try:
        yield others
    finally:
        others.kill()


def _started(job: Job, rank: int, meeting: Path, noise: IO[bytes]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mercato_training.ranks", str(rank), str(meeting)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=noise, stderr=noise)  # noqa: S603  (our own)
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(job), default=str).encode() + b"\n")
    process.stdin.flush()
    return process


def _job(line: bytes) -> Job:
    facts: dict[str, Any] = json.loads(line)
    for name in ("data", "models_dir", "hash_users"):
        facts[name] = facts[name] and Path(facts[name])
    return Job(**facts)


def _end_with_the_first(line: IO[bytes]) -> None:
    line.read()
    os._exit(1)


def main(rank: int, meeting: Path) -> None:
    """Take part in the job that stands on standard input, until it is done or the first process ends."""
    job = _job(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_first, args=(sys.stdin.buffer,), daemon=True).start()
    share_threads(job.processes)
    group = Processes(rank, job.processes, meeting, device_of(job.device, rank))
    train(job, group, Quiet())
    group.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)  # the thread that waits for the first process would hold the interpreter's end
