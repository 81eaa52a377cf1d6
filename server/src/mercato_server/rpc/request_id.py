"""Request ids: which ones callers may choose, and one of ours where they chose none."""

import itertools
import secrets

from mercato_server.errors import InvalidRequest

MAX_LENGTH = 128

# Ours need not be unguessable, only unique: a random part for the process, and a count.
_PROCESS = secrets.token_hex(8)
_COUNT = itertools.count(1)


def settled(given: str) -> str:
    """The caller's id, or a new one for "". Raises InvalidRequest for an id that no log line should hold."""
    if given and not is_usable(given):
        raise InvalidRequest.of("request_id", f"expected at most {MAX_LENGTH} printable ASCII characters")
    return given or f"{_PROCESS}-{next(_COUNT):x}"


def is_usable(given: str) -> bool:
    """Whether it is 1 to 128 printable ASCII characters."""
    return 0 < len(given) <= MAX_LENGTH and given.isascii() and given.isprintable()
