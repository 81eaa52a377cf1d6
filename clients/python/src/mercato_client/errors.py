"""Every error the client raises; this module knows no transport.

MercatoError
├── InvalidInput        the caller's mistake: `violations`, and `field`, the first one at fault
├── NotFound            no such model, version or label
├── NotReady            the model is known, but still loading, or it failed (`reason` tells which)
├── Overloaded          no capacity now: come back after `retry_after` seconds
├── DeadlineExceeded    the timeout passed before an answer came
├── Unavailable         no server there, or it is stopping
├── StaleSchema         the model's signature is no longer the one the call was made for
├── PermissionDenied    the server does not know the caller, or does not allow the call
└── ServerError         the server or a plugin failed: `id` finds the entry in the server's log
"""

from collections.abc import Sequence
from dataclasses import dataclass


class MercatoError(Exception):
    """Root of the tree. `reason` is the server's code, such as MODEL_FAILED; empty when the client itself objects."""

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason


@dataclass(frozen=True)
class Violation:
    """One field at fault: what was got, what was expected."""

    field: str
    description: str


class InvalidInput(MercatoError):
    """The caller's mistake. The same call fails again."""

    def __init__(self, message: str, *, violations: Sequence[Violation] = (), reason: str = "") -> None:
        super().__init__(message, reason=reason)
        self.violations = tuple(violations)

    @classmethod
    def of(cls, *violations: Violation) -> "InvalidInput":
        """The violations, also joined to a text."""
        return cls("; ".join(f"{v.field}: {v.description}" for v in violations), violations=violations)

    @property
    def field(self) -> str:
        """The first field at fault, empty when none is known."""
        return self.violations[0].field if self.violations else ""


class NotFound(MercatoError):
    """No such model, version or label."""


class NotReady(MercatoError):
    """MODEL_NOT_READY: loading, a later call may work. MODEL_FAILED: it will not."""


class Overloaded(MercatoError):
    """No capacity now, or not in time for the deadline. `retry_after` is in seconds; None when no time is named."""

    def __init__(self, message: str, *, retry_after: float | None = None, reason: str = "") -> None:
        super().__init__(message, reason=reason)
        self.retry_after = retry_after


class DeadlineExceeded(MercatoError):
    """The timeout passed before an answer came."""


class Unavailable(MercatoError):
    """No server there, or it is stopping; the call may be repeated."""


class StaleSchema(MercatoError):
    """The model's signature has changed. `expected` and `got` are schema fingerprints, empty when not told."""

    def __init__(self, message: str, *, expected: str = "", got: str = "", reason: str = "") -> None:
        super().__init__(message, reason=reason)
        self.expected = expected
        self.got = got


class PermissionDenied(MercatoError):
    """The server does not know the caller, or does not allow the call."""


class ServerError(MercatoError):
    """The server or a plugin failed. `id` finds the entry in the server's log, empty when there is none."""

    def __init__(self, message: str, *, id: str = "", reason: str = "") -> None:
        super().__init__(message, reason=reason)
        self.id = id
