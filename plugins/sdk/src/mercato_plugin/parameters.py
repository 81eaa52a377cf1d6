"""Typed values of one request: Int, Float, Bool, Choice and Str."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from mercato_plugin.errors import SpecError


@dataclass(frozen=True)
class Parameter:
    """What every parameter states.

    Requests are batched together only on equal values, unless `per_row`: the plugin then gets an
    array with one value per row.
    """

    kind: ClassVar[str] = ""

    doc: str = field(default="", kw_only=True)
    per_row: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class Int(Parameter):
    """A whole number between `low` and `high`, both included."""

    kind: ClassVar[str] = "int"

    default: int = 0
    low: int | None = None
    high: int | None = None

    def __post_init__(self) -> None:
        _check_bounds(self.default, self.low, self.high)


@dataclass(frozen=True)
class Float(Parameter):
    """A finite number between `low` and `high`, both included."""

    kind: ClassVar[str] = "float"

    default: float = 0.0
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        _check_bounds(self.default, self.low, self.high)


@dataclass(frozen=True)
class Bool(Parameter):
    """True or false."""

    kind: ClassVar[str] = "bool"

    default: bool = False


@dataclass(frozen=True)
class Choice(Parameter):
    """One of the strings in `choices`."""

    kind: ClassVar[str] = "choice"

    default: str = ""
    choices: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))
        if self.default not in self.choices:
            raise SpecError(f"default {self.default!r} is not one of {self.choices}")


@dataclass(frozen=True)
class Str(Parameter):
    """Any string of at most `max_bytes` bytes of UTF-8."""

    kind: ClassVar[str] = "str"

    default: str = ""
    max_bytes: int = 256

    def __post_init__(self) -> None:
        if len(self.default.encode()) > self.max_bytes:
            raise SpecError(f"the default has more than max_bytes = {self.max_bytes} bytes")


def _check_bounds(default: float, low: float | None, high: float | None) -> None:
    if (low is not None and default < low) or (high is not None and default > high):
        raise SpecError(f"default {default} lies outside {low} to {high}")
