"""The errors of training: the user's data, options or folders are at fault, and the text says where and what to do.

mercato_client.InvalidInput
└── TrainingError   this training cannot be done as asked
    └── DataError   the data is not what the model asks for
"""

from mercato_client.errors import InvalidInput


class TrainingError(InvalidInput):
    """This training cannot be done as asked; the command prints the text and ends with exit code 2."""


class DataError(TrainingError):
    """The data is not what the model asks for; the text names file, column, row, what was got and expected."""
