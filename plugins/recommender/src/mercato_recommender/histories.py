"""The latest histories of known users: which items each of them met last, found by the user's id."""

import hashlib
import hmac
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mercato_plugin import Secret
from mercato_recommender.catalogue import Catalogue, damaged, read_ids

USERS = "users.json"
FILE = "histories.npy"
HEX_DIGITS = 32
"""Of a hashed id, as `mercato train --hash-users` writes it."""

Numbers = npt.NDArray[np.int32]


class Histories:
    """`numbers` has a row per user: items, the latest first, then the catalogue's absent number; int32.

    With `salt` users are looked up by the hash of their ids.
    """

    def __init__(self, users: Sequence[str], numbers: Numbers, absent: int, salt: bytes | None = None) -> None:
        self._rows = {user: row for row, user in enumerate(users)}
        self._numbers = numbers
        self._absent = absent
        self._salt = salt

    def of(self, user: str) -> list[int]:
        """The numbers of the items that the user met, the latest first; none for an unknown user."""
        row = self._rows.get(user if self._salt is None else hashed(user, self._salt))
        if row is None:
            return []
        numbers: list[int] = self._numbers[row].tolist()
        return [number for number in numbers if number != self._absent]


def hashed(user: str, salt: bytes) -> str:
    """An id as `mercato train --hash-users` writes it: HMAC-SHA-256 under the salt, cut to 128 bits."""
    return hmac.new(salt, user.encode(), hashlib.sha256).hexdigest()[:HEX_DIGITS]


def packed(histories: Mapping[str, Sequence[int]], kept: int, absent: int) -> dict[str, bytes]:
    """The two files of some users' histories, oldest item first; of each the latest `kept` items."""
    numbers = np.full((len(histories), kept), absent, np.int32)
    for row, history in enumerate(histories.values()):
        latest = list(reversed(history))[:kept]
        numbers[row, : len(latest)] = latest
    file = io.BytesIO()
    np.save(file, numbers, allow_pickle=False)
    return {USERS: json.dumps(list(histories), ensure_ascii=False).encode(), FILE: file.getvalue()}


def read_histories(files: Path, model: str, catalogue: Catalogue, salt: Secret | None = None) -> Histories:
    """The histories in a folder, mapped and not read. Raises FolderError.

    Of hashed ids none is found without the salt.
    """
    users = read_ids(files / USERS, model)
    try:
        numbers: Any = np.load(files / FILE, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        raise damaged(model, FILE, "is missing or no array") from None
    _check(numbers, len(users), catalogue.absent, model)
    if catalogue.hashed and salt is None:
        return Histories((), numbers, catalogue.absent)
    return Histories(users, numbers, catalogue.absent, salt.encode().strip() if catalogue.hashed and salt else None)


def _check(numbers: Any, users: int, absent: int, model: str) -> None:
    if numbers.dtype != np.int32 or numbers.ndim != 2 or len(numbers) != users:
        raise damaged(model, FILE, f"is {numbers.dtype} {list(numbers.shape)}, expected int32 with {users} rows")
    if numbers.size and (int(numbers.min()) < 0 or int(numbers.max()) > absent):
        raise damaged(model, FILE, f"holds numbers outside 0 to {absent}")
