"""What callers pass, checked before anything is sent: each check gives the value back in its plain type."""

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import SupportsFloat, cast

from mercato_client.errors import InvalidInput, Violation

# gRPC itself waits at most 27,000 hours, and takes much larger numbers for a deadline that has passed.
MAX_SECONDS = 1e8


def wrong(argument: str, description: str) -> InvalidInput:
    """The error for one argument."""
    return InvalidInput.of(Violation(argument, description))


def text(argument: str, value: object) -> str:
    """Unicode text."""
    if not isinstance(value, str):
        raise _unexpected(argument, value, "str")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise wrong(argument, "got a lone surrogate, expected Unicode text") from error
    return value


def texts(argument: str, value: object) -> list[str]:
    """Names; a single one is a list of one."""
    if isinstance(value, str):
        return [text(argument, value)]
    if not isinstance(value, Iterable):
        raise _unexpected(argument, value, "a list of output names")
    return [text(argument, item) for item in value]


def whole(argument: str, value: object) -> int:
    """A whole number."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise _unexpected(argument, value, "int")
    return int(value)


def priority(value: object) -> int:
    """What the message can hold; the server knows its own limit."""
    number = whole("priority", value)
    if not 0 <= number < 2**32:
        raise wrong("priority", f"got {number}, expected 0 to {2**32 - 1}")
    return number


def flag(argument: str, value: object) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise _unexpected(argument, value, "bool")
    return value


def seconds(value: object) -> float:
    """A timeout; one that is not positive has passed already."""
    number = value if type(value) is float else _real(value)
    if math.isnan(number) or number > MAX_SECONDS:
        raise _too_long(f"{number:g}")
    return number


def _real(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _unexpected("timeout", value, "a number of seconds")
    try:
        return float(cast(SupportsFloat, value))
    except OverflowError as error:
        raise _too_long("more than a float holds") from error


def size(argument: str, value: object) -> int:
    """A number of bytes that gRPC can count."""
    number = whole(argument, value)
    if not 0 < number < 2**31:
        raise wrong(argument, f"got {number}, expected 1 to {2**31 - 1}")
    return number


def addresses(value: object) -> tuple[str, ...]:
    """The names of one server or several."""
    found = tuple(map(address, value if isinstance(value, list | tuple) else (value,)))
    if not found:
        raise wrong("address", "got no address, expected at least one")
    return found


def address(value: object) -> str:
    """The name of a server, without which gRPC writes to standard error."""
    name = text("address", value)
    if not name.strip() or name.endswith("/"):
        raise wrong("address", f'got {name!r}, expected "host:port" or a gRPC target')
    return name


def _unexpected(argument: str, value: object, expected: str) -> InvalidInput:
    return wrong(argument, f"got {type(value).__name__}, expected {expected}")


def _too_long(got: str) -> InvalidInput:
    return wrong("timeout", f"got {got}, expected a number of seconds, at most {MAX_SECONDS:g}")
