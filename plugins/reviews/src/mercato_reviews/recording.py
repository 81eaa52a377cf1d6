"""Which rows of a test part are kept with their answers, for the certificate to hold the served model against."""

from collections.abc import Callable, Iterable, Sequence

ROWS = 64
"""Texts that are kept."""

ALWAYS = ("", "!?", "👟", "123", "a 好")
"""Texts that every model must answer: no letter, one emoji, hardly anything known."""


def chosen(texts: Iterable[str], is_whole: Callable[[str], bool]) -> Sequence[str]:
    """The first different texts that serving takes as a whole, after those that are always asked."""
    different = dict.fromkeys((*ALWAYS, *texts))
    return [text for text in different if is_whole(text)][:ROWS]
