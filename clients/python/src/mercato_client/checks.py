"""What callers pass, checked before anything is sent: each check gives the value back in its plain type."""

import math
import re
from collections.abc import Iterable
from numbers import Integral, Real
from typing import SupportsFloat, cast

from mercato_client.errors import InvalidInput, Violation

# gRPC itself waits at most 27,000 hours, and takes much larger numbers for a deadline that has passed.
MAX_SECONDS = 1e8

LEAST_PRIORITY = 9

_ADDRESS = re.compile(r"(?:(?P<host>[^\s:/\[\]]+)|\[(?P<six>[^\s/\[\]]+)\]):(?P<port>[0-9]{1,5})")
_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:")


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
    """1 is the most urgent, 9 the least; 0 the model's default."""
    number = whole("priority", value)
    if not 0 <= number <= LEAST_PRIORITY:
        raise wrong("priority", f"got {number}, expected 0 to {LEAST_PRIORITY}")
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
    found = tuple(text("address", one) for one in (value if isinstance(value, list | tuple) else (value,)))
    if not found:
        raise wrong("address", "got no address, expected at least one")
    return found if len(found) > 1 else (_target(found[0]),)


def host_and_port(name: str) -> tuple[str, str] | None:
    """The two parts of "host:port", where an IPv6 host is in brackets; None for anything else."""
    parts = _ADDRESS.fullmatch(name)
    if parts is None or not name.isprintable() or int(parts["port"]) > 65535:
        return None
    return parts["host"] or parts["six"], parts["port"]


def _target(name: str) -> str:
    """What gRPC would write to standard error about, or take for port 443, is refused."""
    is_target = name.startswith(_SCHEMES) and not name.endswith((":", "/")) and name.isprintable()
    if not is_target and host_and_port(name) is None:
        raise wrong("address", f'got {name!r}, expected "host:port", an IPv6 host in brackets, or a gRPC target')
    return name


def _unexpected(argument: str, value: object, expected: str) -> InvalidInput:
    return wrong(argument, f"got {type(value).__name__}, expected {expected}")


def _too_long(got: str) -> InvalidInput:
    return wrong("timeout", f"got {got}, expected a number of seconds, at most {MAX_SECONDS:g}")
