"""Tables for people: every cell is plain text, since reasons hold square brackets, and nothing is cut off."""

from collections.abc import Iterable, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text


def show(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", out: TextIO | None = None) -> None:
    """Print a table, on standard output unless told otherwise; long cells fold, unnamed columns get no header."""
    table = Table(title=title or None, title_justify="left", show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(file=out).print(table)
