"""How far a training is, for people: one bar per step on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

EVERY = 10.0
"""Seconds between two lines of a step that is not finished."""


class Bars:
    """Draws on standard error, so that what the command answers stays apart."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._told = clock()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Bars":
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def step(self, title: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` pieces of a step are done."""
        if not self._console.is_terminal:
            if done == total or self._clock() - self._told >= EVERY:
                self._told = self._clock()
                self._console.print(
                    f"{title}: {done}/{total} {note}".rstrip(), markup=False, highlight=False, soft_wrap=True
                )
            return
        if title not in self._tasks:
            self._tasks[title] = self._bars.add_task(title, total=total, note=note)
        self._bars.update(self._tasks[title], completed=done, total=total, note=note)

    def say(self, text: str) -> None:
        """One line above the bars."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
