"""The progress bar of exports, for every command that may export."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mercato_server.export.request import Progress as ExportStep


class ExportProgress:
    """One bar per model and step; nothing is drawn until the first export, and nothing at all but on a terminal."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._is_seen = console.is_terminal
        self._drawing = False

    def __enter__(self) -> "ExportProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def update(self, model: str, step: ExportStep) -> None:
        """Show how far one step of one model is."""
        if not self._is_seen:
            return  # the bars would be lines between those of the log
        if not self._drawing:
            self._bars.start()
            self._drawing = True
        key = (model, step.step)
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(f"{model}: {step.step}", total=step.total)
        self._bars.update(self._tasks[key], completed=step.done, total=step.total)

    def stop(self) -> None:
        """Leave the bars as they are and give the terminal back."""
        if self._drawing:
            self._bars.stop()
            self._drawing = False
