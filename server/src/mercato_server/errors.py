"""Every error the server raises on purpose; this module knows no transport.

MercatoError
├── RequestError            one request fails; the server lives on
│   ├── InvalidRequest      the caller's mistake, with the fields at fault
│   ├── NotFound            no such model, version or label
│   ├── ModelNotReady       known, but still being exported, loaded or warmed
│   ├── ModelFailed         known, but it failed
│   ├── SchemaChanged       the caller was generated from another signature
│   ├── Overloaded          no permit free; come back after `retry_after`
│   │   ├── QuotaExceeded       the caller has as many requests in flight as it may
│   │   └── DeadlineUnreachable what is before the request takes longer than its deadline allows
│   ├── DeadlineExpired     the deadline passed before the answer was ready
│   ├── Draining            the server is stopping
│   ├── WorkerCrashed       the worker ended before the answer was ready
│   ├── LoadRefused         an operator's load failed; what served before serves on
│   ├── LabelRefused        a label cannot move to a version that is not AVAILABLE
│   │   └── GateNotPassed       nor to one whose metrics do not pass a gate
│   ├── LabelHolds          a version is not unloaded while a label means it
│   ├── Cancelled           the caller took one request of a stream back
│   ├── NotAllowed          the caller may not use this method or model
│   └── PluginFault         the plugin's code or graph failed; `id` finds the log entry
└── StartupError            a model or the server cannot start
    ├── ConfigError         a setting is wrong
    ├── PluginRefused       a plugin cannot be loaded, with a reason code
    ├── ExportFailed        building or exporting raised
    ├── ParityFailed        the graph disagrees with its source
    ├── ArtifactDamaged     a stored file is not what its manifest says
    ├── ProviderUnavailable the execution provider that was asked for does not come up
    ├── MemoryExceeded      the model does not fit the memory that is left
    └── LoadFailed          sessions, the plugin's load or warm-up raised
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass


class MercatoError(Exception):
    """Root of the tree. The text is shown to callers: it holds no path, traceback or payload."""

    reason = "INTERNAL"


class RequestError(MercatoError):
    """One request fails. `model` is the name the caller used, "" when none is known."""

    def __init__(self, message: str, *, model: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.model = model


@dataclass(frozen=True)
class Violation:
    """One field at fault: what was got, what was expected."""

    field: str
    description: str


class InvalidRequest(RequestError):
    """The caller's mistake."""

    reason = "INVALID_REQUEST"

    def __init__(self, violations: Sequence[Violation], *, model: str = "") -> None:
        where = f"model {model!r}: " if model else ""
        super().__init__(where + "; ".join(f"{v.field}: {v.description}" for v in violations), model=model)
        self.violations = tuple(violations)

    @classmethod
    def of(cls, field: str, description: str, *, model: str = "") -> "InvalidRequest":
        """One violation."""
        return cls((Violation(field, description),), model=model)


class NotFound(RequestError):
    """No such model, version or label."""

    reason = "MODEL_NOT_FOUND"


class ModelNotReady(RequestError):
    """Still on its way to AVAILABLE; retrying later may work."""

    reason = "MODEL_NOT_READY"


class ModelFailed(RequestError):
    """It failed on its way to AVAILABLE; retrying does not help."""

    reason = "MODEL_FAILED"


class SchemaChanged(RequestError):
    """The caller's schema fingerprint is not the model's."""

    reason = "SCHEMA_CHANGED"

    def __init__(self, message: str, *, model: str, expected: str, got: str) -> None:
        super().__init__(message, model=model)
        self.expected = expected
        self.got = got


class Overloaded(RequestError):
    """No permit free. `retry_after` in seconds is when there may be one; None when retrying is useless.

    `is_final` where the call itself cannot succeed any more, so that a client is not to repeat it before it has ended.
    """

    reason = "OVERLOADED"

    def __init__(self, message: str, *, model: str, retry_after: float | None, is_final: bool = False) -> None:
        super().__init__(message, model=model)
        self.retry_after = retry_after
        self.is_final = is_final or retry_after is None


class QuotaExceeded(Overloaded):
    """The caller has as many requests in flight as it may, whoever else has how many."""

    reason = "QUOTA_EXCEEDED"


class DeadlineUnreachable(Overloaded):
    """By what runs took so far, the deadline passes before the request could be answered; nothing was run."""

    reason = "DEADLINE_UNREACHABLE"


class DeadlineExpired(RequestError):
    """The deadline passed; the text says whether the request may have run."""

    reason = "DEADLINE_EXPIRED"


class Draining(RequestError):
    """The server or the model is stopping; another server may answer."""

    reason = "DRAINING"


class WorkerCrashed(RequestError):
    """The worker ended before the answer was ready, and is started again.

    A request that `may_have_run` may be what ended it: callers are told not to send it again by themselves.
    """

    reason = "WORKER_CRASHED"

    def __init__(self, message: str, *, model: str = "", may_have_run: bool = True) -> None:
        super().__init__(message, model=model)
        self.may_have_run = may_have_run


class LoadRefused(RequestError):
    """An operator's load failed. What served before serves on; `reason` is that of the failure, such as LOAD_FAILED."""

    def __init__(self, message: str, *, model: str = "", reason: str) -> None:
        super().__init__(message, model=model)
        self.reason = reason


class LabelRefused(RequestError):
    """A label moves to AVAILABLE versions only."""

    reason = "VERSION_NOT_AVAILABLE"


class GateNotPassed(LabelRefused):
    """A label moves only to versions whose metrics pass every gate of their model."""

    reason = "GATE_NOT_PASSED"


class LabelHolds(RequestError):
    """A label means the version that is to be unloaded."""

    reason = "VERSION_LABELLED"


class Cancelled(RequestError):
    """The caller took one request of a stream back."""

    reason = "CANCELLED"


class NotAllowed(RequestError):
    """The access table has no row for this caller; the text is the same whether or not the model exists."""

    reason = "PERMISSION_DENIED"


class PluginFault(RequestError):
    """The plugin's code or graph failed. `id`, made here and part of the text, finds the entry in the server's log."""

    reason = "PLUGIN_FAULT"

    def __init__(self, message: str, *, model: str, known: str = "") -> None:
        """`known` is the id of a fault that another process has logged; `message` holds it then."""
        self.id = known or uuid.uuid4().hex[:12]
        super().__init__(message if known else f"{message} (id {self.id})", model=model)


class StartupError(MercatoError):
    """A model or the server cannot start."""


class ConfigError(StartupError):
    """A setting is wrong."""

    reason = "CONFIG_INVALID"


class PluginRefused(StartupError):
    """A plugin cannot be loaded; `code` is one of the codes of docs/reference/refusals.md."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = code


class ExportFailed(StartupError):
    """Building or exporting raised."""

    reason = "EXPORT_FAILED"


class ParityFailed(StartupError):
    """The exported graph disagrees with its source; the text has the numbers."""

    reason = "PARITY_FAILED"


class ArtifactDamaged(StartupError):
    """A stored file is missing, extra or different from its manifest."""

    reason = "ARTIFACT_DAMAGED"


class ProviderUnavailable(StartupError):
    """The execution provider that was asked for does not come up."""

    reason = "PROVIDER_UNAVAILABLE"


class MemoryExceeded(StartupError):
    """The model does not fit the memory that `memory_limit` leaves."""

    reason = "MEMORY_EXCEEDED"


class LoadFailed(StartupError):
    """Creating sessions, the plugin's `load` or warm-up raised."""

    reason = "LOAD_FAILED"
