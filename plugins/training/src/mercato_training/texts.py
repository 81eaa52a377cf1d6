"""Words of messages: names of columns as they may be shown, and counts with what is counted."""

from collections.abc import Iterable

from mercato_plugin.masking import masked

LISTED = 12
"""Names of one list; of more their number is said."""

LONGEST = 40
"""Characters that are shown of one name or value."""


def shown(name: str) -> str:
    """A column's name, in quotes where its ends or blanks could be overlooked.

    It is masked and cut: the first line of a file without a header is a row.
    """
    short = masked(name)[:LONGEST]
    return short if short.isprintable() and short and " " not in short else repr(short)


def listed(names: Iterable[str]) -> str:
    """Names of columns, or how many more there are."""
    every = list(names)
    rest = len(every) - LISTED
    return ", ".join(map(shown, every[:LISTED])) + (f" and {rest} more" if rest > 0 else "")


def counted(count: int, one: str, many: str = "") -> str:
    """Such as `1 row` and `2 rows`."""
    return f"{count} {one if count == 1 else many or one + 's'}"
