"""The further processes of a training: started by the first, fed the same job, ended with it.

`python -m mercato_training.ranks` is one of them.
"""

import json
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from mercato_training.context import Quiet
from mercato_training.errors import TrainingError
from mercato_training.group import Group, Processes, device_of, share_threads
from mercato_training.others import REFUSED, Others, interrupts_held, ready_file
from mercato_training.run import Job, train

MAX_PROCESSES = 64


@contextmanager
def group_of(job: Job) -> Iterator[Group]:
    """The first process's group; the others run the same job meanwhile. Raises TrainingError when one of them ends."""
    if not 1 <= job.processes <= MAX_PROCESSES:
        raise TrainingError(f"--processes: got {job.processes}, expected 1 to {MAX_PROCESSES}")
    if job.processes == 1:
        yield Group()
        return
    device = device_of(job.device, 0, job.processes)
    with tempfile.TemporaryDirectory(prefix="mercato-training-") as folder, _others(job, Path(folder)) as others:
        try:
            group = others.meet(lambda: Processes(0, job.processes, others.meeting, device))
            share_threads(job.processes)
            yield group
            group.close()
        except RuntimeError as error:  # torch.distributed: another process is gone
            others.blame(error)
        others.end()


@contextmanager
def _others(job: Job, folder: Path) -> Iterator[Others]:
    others = Others(folder)
    try:
        with others.watched():
            others.start(json.dumps(asdict(job), default=str).encode(), job.processes - 1)
            yield others
    finally:
        with interrupts_held():
            others.kill()


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
    device = device_of(job.device, rank, job.processes)
    ready_file(meeting, rank).touch()
    group = Processes(rank, job.processes, meeting, device)
    train(job, group, Quiet())
    group.close()


def _code(rank: int, meeting: Path) -> int:
    try:
        main(rank, meeting)
    except TrainingError as error:
        sys.stdout.write(f"{error}\n")
        return REFUSED
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    code = _code(int(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the thread that waits for the first process would hold the interpreter's end
