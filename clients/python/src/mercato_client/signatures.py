"""The signatures a client has seen: one GetModel per model, repeated only when one turns out to be stale."""

from collections.abc import Callable
from dataclasses import dataclass

from mercato_client import checks
from mercato_client.channel import Deadline
from mercato_client.errors import NotFound, NotReady
from mercato_client.schema import Model, Signature


@dataclass(frozen=True)
class Target:
    """Which model a call is for: a version, a label, or neither."""

    model: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        checks.text("model", self.model)
        if self.version is not None:
            checks.whole("version", self.version)
        if self.label is not None:
            checks.text("label", self.label)
        if self.version is not None and self.label is not None:
            raise checks.wrong("label", "got a version and a label, expected one of them or neither")


class Signatures:
    """Finds the signature of a target; `fetch` asks the server for a model."""

    def __init__(self, fetch: Callable[[str, Deadline], Model]) -> None:
        self._fetch = fetch
        self._models: dict[str, Model] = {}

    def find(self, target: Target, deadline: Deadline) -> Signature:
        """The signature from memory, else from the server. Raises NotFound or NotReady."""
        known = self._models.get(target.model)
        version = known.choose(target.version, target.label) if known else None
        return version.signature if version and version.signature else self.refresh(target, deadline)

    def refresh(self, target: Target, deadline: Deadline) -> Signature:
        """The signature as the server tells it now. Raises NotFound or NotReady."""
        model = self._models[target.model] = self._fetch(target.model, deadline)
        return _signature(model, target)


def _signature(model: Model, target: Target) -> Signature:
    version = model.choose(target.version, target.label)
    if version is None:
        raise NotFound(_absent(model, target))
    if version.signature is None:
        why = f": {version.reason}" if version.reason else ""
        raise NotReady(f"model {model.name!r} version {version.version} is {version.state}{why}")
    return version.signature


def _absent(model: Model, target: Target) -> str:
    if target.label is not None:
        return f"model {model.name!r} has no label {target.label!r}; it has {', '.join(model.labels) or 'none'}"
    versions = ", ".join(str(v.version) for v in model.versions) or "none"
    return f"model {model.name!r} has no version {target.version}; it has {versions}"
