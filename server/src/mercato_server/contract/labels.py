"""Labels: movable names for versions, given by the settings and by operators."""

import re

LABEL = re.compile(r"[a-z][a-z0-9_]{0,63}")
EXPECTED = "at most 64 lower-case letters, digits and _, a letter first"


def is_label(text: str) -> bool:
    """Whether it is what `EXPECTED` says."""
    return LABEL.fullmatch(text) is not None
