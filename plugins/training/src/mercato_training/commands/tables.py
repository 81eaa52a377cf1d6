"""Tables for people, on standard output: every cell is plain text and nothing is cut off."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

SHOWN = 4
"""Significant digits of a metric."""


def show(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; numbers stand on the right, a row's name on the left."""
    table = Table(show_header=any(columns))
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def number(value: float) -> str:
    """A metric as people read it."""
    return f"{value:.{SHOWN}g}"
