"""Keyed hashes of people's ids: the same person has the same hash under one salt, and nobody without it can tell."""

import hashlib
import hmac
from dataclasses import dataclass, field
from pathlib import Path

from mercato_training.errors import TrainingError

MIN_SALT = 16
MAX_SALT = 4096
HEX_DIGITS = 32


@dataclass(frozen=True)
class UserHash:
    """HMAC-SHA-256 of an id under the bytes of a salt file, cut to 128 bits."""

    salt: bytes = field(repr=False)

    def __call__(self, user: str) -> str:
        """32 hexadecimal digits."""
        return hmac.new(self.salt, user.encode(), hashlib.sha256).hexdigest()[:HEX_DIGITS]


def read_salt(path: Path) -> UserHash:
    """The hash under a salt file. Raises TrainingError for one that is absent or too short to be secret."""
    try:
        salt = path.read_bytes()[: MAX_SALT + 1].strip()
    except IsADirectoryError:
        raise TrainingError(f"--hash-users: {path.name!r} is a folder, expected a file with a salt") from None
    except OSError:
        raise TrainingError(f"--hash-users: the salt file {path.name!r} cannot be read") from None
    if not MIN_SALT <= len(salt) <= MAX_SALT:
        raise TrainingError(
            f"--hash-users: {path.name!r} has {len(salt)} bytes, expected {MIN_SALT} to {MAX_SALT} random ones; "
            "make them with: head -c 32 /dev/urandom | base64"
        )
    return UserHash(salt)
