"""The signatures a client has seen: one GetModel per model, repeated only when one turns out to be stale."""

from dataclasses import dataclass

from mercato_client import checks
from mercato_client.encoder import Encoder
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
    """Finds the encoder of a target among the models that the server has described."""

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._encoders: dict[Target, Encoder] = {}

    def find(self, target: Target) -> Encoder | None:
        """The encoder from memory; None where the server must be asked."""
        encoder = self._encoders.get(target)
        return encoder or self._made(target)

    def learn(self, model: Model, target: Target) -> Encoder:
        """The encoder by what the server tells of `model` now. Raises NotFound or NotReady."""
        self._models[target.model] = model
        self._encoders = {known: encoder for known, encoder in self._encoders.items() if known.model != target.model}
        encoder = self._encoders[target] = Encoder(_signature(model, target))
        return encoder

    def _made(self, target: Target) -> Encoder | None:
        model = self._models.get(target.model)
        version = model.choose(target.version, target.label) if model else None
        if version is None or version.signature is None:
            return None
        encoder = self._encoders[target] = Encoder(version.signature)
        return encoder


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
