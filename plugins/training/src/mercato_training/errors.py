"""The errors of training: the user's data, options or folders are at fault, and the text says where and what to do.

mercato_client.InvalidInput
└── TrainingError   this training cannot be done as asked
    └── DataError   the data is not what the model asks for
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mercato_client.errors import InvalidInput


class TrainingError(InvalidInput):
    """This training cannot be done as asked; the command prints the text and ends with exit code 2."""


class DataError(TrainingError):
    """The data is not what the model asks for; the text names file, column, row, what was got and expected."""


@contextmanager
def writing(flag: str) -> Iterator[None]:
    """What is written here goes where `flag` says: raises TrainingError for a full disk and other such errors."""
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else type(error).__name__
        raise TrainingError(f"{flag}: cannot be written: {why}") from error
