"""The errors a plugin raises or meets while it declares itself.

Exception
├── SpecError      the specification contradicts itself (raised when it is written)
├── FolderError    a model folder is absent, damaged, or not what its model can be built from
└── InvalidInput   the caller's mistake, found by the plugin (raised while serving)
"""

from collections.abc import Sequence


class SpecError(ValueError):
    """A model's specification is not valid; the text names the part and what was expected."""


class FolderError(ValueError):
    """A model folder cannot be used; the text names model, version and file, and never a path."""


class InvalidInput(Exception):
    """The caller's input is at fault: INVALID_ARGUMENT naming `field`.

    With `rows` (indices in the batch) only the requests that own those rows fail. Without, a batch of
    several requests is halved and run again until those for which it is raised are alone, and they fail.
    `field` and `message` become `str`.
    """

    def __init__(self, field: str, message: str, rows: Sequence[int] | None = None) -> None:
        super().__init__(f"{field}: {message}")
        self.field = str(field)
        self.message = str(message)
        self.rows = None if rows is None else tuple(rows)
