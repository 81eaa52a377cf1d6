"""Words that others wrote, as an error message quotes them."""

MAX_SHOWN = 80
"""Characters of a word that are shown."""


def shown(text: str) -> str:
    """A word for an error message: quoted, control characters escaped, cut to `MAX_SHOWN` characters."""
    return ascii(text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}...")
