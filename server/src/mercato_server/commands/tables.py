"""Tables for people: every cell is plain text, since reasons hold square brackets, and nothing is cut off."""

from collections.abc import Iterable, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text


def show(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", out: TextIO | None = None) -> None:
    """Print a table, on standard output unless told otherwise; long cells fold, unnamed columns get no header.

    Names, in the first column, stay on one line, unless one takes more than half of the width.
    """
    cells, console = list(rows), Console(file=out)
    whole = max((len(row[0]) for row in cells), default=0) <= console.width // 2
    table = Table(title=title or None, title_justify="left", show_header=any(columns))
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=whole and index == 0)
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)
