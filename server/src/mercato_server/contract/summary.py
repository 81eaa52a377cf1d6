"""One line of an exception for an operator: no traceback, no dump, no path."""

import re

MAX_SUMMARY = 400
"""Characters of an exception's text that are shown."""

_PATH = re.compile(r"(?:/[\w.+@-]+)+/([\w.+@-]+)")


def summary(error: BaseException) -> str:
    """The type and first lines of the innermost cause that says something."""
    cause = error
    while cause.__cause__ is not None and str(cause.__cause__).strip():
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    text = _PATH.sub(r"\1", " ".join(lines[:3]))
    return f"{type(cause).__name__}: {text[:MAX_SUMMARY]}" if text else type(cause).__name__
