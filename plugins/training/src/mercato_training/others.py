"""The further processes of a training as the first one sees them: started, waited for, watched, ended with it.

What torch waits for it waits for outside Python, deaf to signals and to processes that are gone: a thread listens.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from mercato_training.errors import TrainingError

REFUSED = 2
"""Exit code of a process that has met a TrainingError; the last line that it said is the error's text."""

POLL = 0.05
"""Seconds between two looks at the processes."""

BLAME_SECONDS = 1.0
"""Longest wait for the end of a process that has gone silent."""

END_SECONDS = 30.0
"""Longest wait for a process that has nothing left to do, and for the first to notice that another one is gone."""

INTERRUPT_SECONDS = 5.0
"""Longest wait for the first process to come back from torch when somebody interrupts it."""

Found = TypeVar("Found")


def ready_file(meeting: Path, rank: int) -> Path:
    """What a process makes when only the meeting is left to do."""
    return meeting.with_name(f"{rank}.ready")


@contextmanager
def interrupts_held() -> Iterator[None]:
    """What is interrupted here is so at the end: a process that was started is known, and one is ended as a whole."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            signal.raise_signal(signal.SIGINT)


class Others:
    """The started processes, each with a file for what it prints, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._noises: list[IO[bytes]] = []
        self._is_over = threading.Event()

    @property
    def meeting(self) -> Path:
        """The file at which all processes meet."""
        return self._folder / "meeting"

    def start(self, job: bytes, count: int) -> None:
        """Start processes 1 to `count` and give each the job."""
        for rank in range(1, count + 1):
            self._start(job, rank)

    @interrupts_held()
    def _start(self, job: bytes, rank: int) -> None:
        noise = (self._folder / f"{rank}.log").open("w+b")
        command = [sys.executable, "-m", "mercato_training.ranks", str(rank), str(self.meeting)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=noise, stderr=noise)  # noqa: S603  (ours)
        self._noises.append(noise)
        self._processes.append(process)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; `meet` will tell why
            process.stdin.write(job + b"\n")
            process.stdin.flush()

    def meet(self, join: Callable[[], Found]) -> Found:
        """What `join` gives, which waits until all processes have joined. Raises TrainingError when one has ended."""
        ranks = range(1, len(self._processes) + 1)
        while not all(ready_file(self.meeting, rank).exists() for rank in ranks):
            self._check()
            time.sleep(POLL)
        found: list[Found] = []
        errors: list[Exception] = []
        thread = threading.Thread(target=_joined, args=(join, found, errors), daemon=True)
        thread.start()
        while thread.is_alive():
            self._check()
            thread.join(POLL)
        if errors:
            raise errors[0]
        return found[0]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """End this process where it hangs in torch because another has ended, or somebody interrupts."""
        heard, wakes = os.pipe()
        os.set_blocking(wakes, False)
        is_main = threading.current_thread() is threading.main_thread()
        before = signal.set_wakeup_fd(wakes, warn_on_full_buffer=False) if is_main else -1
        thread = threading.Thread(target=self._watch, args=(heard,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            if is_main:
                signal.set_wakeup_fd(before)
            self._is_over.set()
            thread.join()
            os.close(heard)
            os.close(wakes)

    def blame(self, error: RuntimeError) -> None:
        """Raise TrainingError for the process that ended first, else what the first process met."""
        deadline = time.monotonic() + BLAME_SECONDS
        while time.monotonic() < deadline:
            if any(process.poll() for process in self._processes):
                raise self._ended() from error
            time.sleep(POLL)
        raise error

    def end(self) -> None:
        """Wait for processes that are done."""
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=END_SECONDS)

    def kill(self) -> None:
        """End what still runs."""
        for process in self._processes:
            process.kill()
        for process, noise in zip(self._processes, self._noises, strict=True):
            process.wait()
            noise.close()
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()

    def _check(self) -> None:
        if any(process.poll() is not None for process in self._processes):
            raise self._ended()

    def _ended(self) -> TrainingError:
        """What the process that has ended said last."""
        codes = [process.poll() for process in self._processes]
        place = next((place for place, code in enumerate(codes) if code), 0)
        line = self._last_line(place)
        refused = codes[place] == REFUSED
        return TrainingError(line if refused else f"process {place + 1} of the training ended: {line[:300]}")

    def _last_line(self, place: int) -> str:
        lines = (self._folder / f"{place + 1}.log").read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")

    def _watch(self, heard: int) -> None:
        """An interrupt ends the other processes, which brings this one back from where it waits for them."""
        deadline, code = float("inf"), 1
        while not self._is_over.is_set() and time.monotonic() < deadline:
            if select.select([heard], [], [], POLL)[0] and signal.SIGINT in os.read(heard, 512):
                for process in self._processes:
                    process.kill()
                deadline, code = min(deadline, time.monotonic() + INTERRUPT_SECONDS), 128 + signal.SIGINT
            elif deadline == float("inf") and any(process.poll() for process in self._processes):
                deadline = time.monotonic() + END_SECONDS
        if not self._is_over.is_set():
            self._give_up(code)

    def _give_up(self, code: int) -> None:
        if code == 1:
            sys.stderr.write(f"mercato: {self._ended()}\n")
            sys.stderr.flush()
        for process in self._processes:
            process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
        os._exit(code)


def _joined(join: Callable[[], Found], found: list[Found], errors: list[Exception]) -> None:
    try:
        found.append(join())
    except Exception as error:  # told where the thread is waited for
        errors.append(error)
