"""The catalog: which versions of which models there are, in what state, and how a name finds one."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mercato_plugin import ModelSpec
from mercato_plugin.frozen import schema_fingerprint
from mercato_server.contract.certificate import Certificate
from mercato_server.contract.gates import Gate, not_passed
from mercato_server.contract.labels import EXPECTED, is_label
from mercato_server.contract.plugin import BY_HAND, Offers, PluginInfo, Refusal, Untrained
from mercato_server.contract.state import STARTING, State, Status
from mercato_server.contract.words import shown as shown
from mercato_server.errors import (
    Draining,
    GateNotPassed,
    InvalidRequest,
    LabelRefused,
    ModelFailed,
    ModelNotReady,
    NotFound,
    RequestError,
)
from mercato_server.serving.engine import Engine

log = logging.getLogger("mercato.serving")

Listener = Callable[["Version"], None]


@dataclass(eq=False)
class Version:
    """One version of one model. Digest and certificate are set on LOADING, the engine before AVAILABLE.

    `metrics` are those of its model folder. `default_deadline`, in seconds, holds for callers that set none; None is
    the data port's own. `nbytes` is the memory that it was measured to take while it is loaded, else 0.
    """

    name: str
    number: int
    spec: ModelSpec
    plugin: PluginInfo
    metrics: Mapping[str, float] = field(default_factory=dict)
    status: Status = field(default_factory=Status)
    digest: str = ""
    certificate: Certificate | None = None
    providers: tuple[str, ...] = ()
    engine: Engine | None = None
    default_deadline: float | None = None
    nbytes: int = 0
    fingerprint: str = ""

    def __post_init__(self) -> None:
        self.fingerprint = schema_fingerprint(self.spec)

    @property
    def named(self) -> dict[str, object]:
        """Which one it is, as fields of a log line."""
        return {"model": self.name, "version": self.number, "plugin": self.plugin.distribution}


@dataclass
class Catalog:
    """All versions by model name. It alone moves states, and tells its listeners after each move.

    `refusal_listeners` are told the name of a model that is refused, or a version of which is.

    `refused` and `untrained` are what is installed and not served; `has_folders` whether model folders are looked for.
    `gates` bound which versions a label may mean, and go before height where a caller names none; `barred` says which
    of the labels there were at the start could not be set for them.
    """

    models: dict[str, dict[int, Version]] = field(default_factory=dict)
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    untrained: list[Untrained] = field(default_factory=list)
    has_folders: bool = True
    gates: Sequence[Gate] = ()
    barred: list[str] = field(default_factory=list)
    listeners: list[Listener] = field(default_factory=list)
    refusal_listeners: list[Callable[[str], None]] = field(default_factory=list)
    draining: bool = False

    def add(self, version: Version) -> Version:
        """Enter a version; one of its name and number that was there is replaced in the same step."""
        known = self.models.setdefault(version.name, {})
        if version.number not in known:
            self._bar(version)
        known[version.number] = version
        self._tell(version)
        return version

    def note(self, plugin: PluginInfo, offers: Offers) -> None:
        """Keep what of a plugin is not served, in place of what was known of it before."""
        own = (plugin.distribution, plugin.entry_point)
        self.refused[:] = [r for r in self.refused if (r.plugin.distribution, r.plugin.entry_point) != own]
        self.refused += offers.refused
        self.untrained[:] = [u for u in self.untrained if (u.plugin.distribution, u.plugin.entry_point) != own]
        self.untrained += offers.untrained
        for model in {refusal.model for refusal in offers.refused if refusal.model}:
            for listener in self.refusal_listeners:
                listener(model)

    def move(self, version: Version, state: State, reason: str = "") -> None:
        """Move a version on. Raises ValueError on a step that is not legal."""
        version.status = version.status.to(state, reason)
        self._tell(version)

    def set_label(self, name: str, label: str, number: int | None) -> Mapping[str, int]:
        """Move a label to an AVAILABLE version, or take it away for None; gives all labels of the model.

        Raises NotFound, ModelFailed, InvalidRequest for what is no label, LabelRefused or GateNotPassed.
        """
        if not is_label(label):
            raise InvalidRequest.of("label", f"got {shown(label)}, expected {EXPECTED}", model=name)
        if number is None:
            self._number(name, label)
            del self.labels[name][label]
        else:
            version = self.find(name, number)
            if (state := version.status.state) is not State.AVAILABLE:
                text = f"model {name!r} version {number} is {state.value}; labels move to AVAILABLE versions"
                raise LabelRefused(text, model=name)
            if why := not_passed(self.gates, name, version.metrics):
                raise GateNotPassed(f"model {name!r} version {number} cannot be {label!r}: {why}", model=name)
            self.labels.setdefault(name, {})[label] = number
        return self.labels[name]

    def versions(self) -> list[Version]:
        """Every version, ordered by model name, newest first."""
        return [v for name in sorted(self.models) for _, v in sorted(self.models[name].items(), reverse=True)]

    def model(self, name: str) -> Mapping[int, Version]:
        """All versions of one model. Raises NotFound, or ModelFailed where all that there is of it is refused."""
        versions = self.models.get(name)
        if versions:
            return versions
        raise self._missing(name)

    def find(self, name: str, number: int | None = None, label: str | None = None) -> Version:
        """The version that a reference means. Raises NotFound or ModelFailed, as `model` does."""
        versions = self.model(name)
        if label is not None:
            return self._labelled(name, label)
        if number is None:
            is_stable = "stable" in self.labels.get(name, {})
            return self._labelled(name, "stable") if is_stable else self._newest(name, versions)
        if number not in versions:
            load = f"; where there is a folder of it, `mercato admin load {name} --version {number}` loads it"
            way_out = load if self.has_folders and any(v.metrics for v in versions.values()) else ""
            raise NotFound(f"model {name!r} has no version {number}; it has {_numbers(versions)}{way_out}", model=name)
        return versions[number]

    def resolve(self, name: str, number: int | None = None, label: str | None = None) -> Version:
        """The available version that a reference means.

        Raises NotFound, ModelNotReady while it starts, ModelFailed, or Draining.
        """
        version = self.find(name, number, label)
        status = version.status
        if status.state is State.AVAILABLE:
            return version
        where = f"model {name!r} version {version.number}"
        why = f": {status.reason}" if status.reason else ""
        if self.draining or status.state in (State.DRAINING, State.UNLOADED):
            raise Draining(f"{where} is {status.state.value}", model=name)
        if status.state in STARTING:
            raise ModelNotReady(f"{where} is {status.state.value}; retry when it is AVAILABLE", model=name)
        raise ModelFailed(f"{where} failed{why}", model=name)

    def _bar(self, version: Version) -> None:
        """Take away the labels that mean a version whose metrics do not pass the gates."""
        labels = self.labels.get(version.name, {})
        for label in [label for label, number in labels.items() if number == version.number]:
            if why := not_passed(self.gates, version.name, version.metrics):
                del labels[label]
                text = f"model {version.name!r} version {version.number} cannot be {label!r}, which is not set: {why}"
                self.barred.append(text)
                log.warning("%s", text, extra=version.named)

    def _missing(self, name: str) -> RequestError:
        """Why a model has no version: the highest that is refused, or that none is trained or known."""
        if refused := [refusal for refusal in self.refused if refusal.model and refusal.model == name]:
            highest = max(refused, key=lambda refusal: refusal.version)
            why = f"{highest.what} is refused: {highest.code}: {highest.reason}"
            return ModelFailed(f"{why}; then {_load(highest.plugin)}", model=name)
        for untrained in self.untrained:
            if untrained.model == name:
                serve = _load(untrained.plugin) if self.has_folders else "start the server with --models-dir"
                made = f"train one with `mercato train {name}`" if untrained.trains else BY_HAND
                way_out = f"{made} and {serve}"
                return NotFound(f"model {name!r} is installed but has no trained version; {way_out}", model=name)
        return NotFound(f"there is no model {shown(name)}; there are {_names(self.models)}", model=name)

    def _number(self, name: str, label: str) -> int:
        """What a label of a model means."""
        self.model(name)
        labels = self.labels.get(name, {})
        if label not in labels:
            have = ", ".join(sorted(labels)) or "none"
            raise NotFound(f"model {name!r} has no label {shown(label)}; it has {have}", model=name)
        return labels[label]

    def _labelled(self, name: str, label: str) -> Version:
        number, versions = self._number(name, label), self.models[name]
        if number not in versions:
            text = f"label {shown(label)} of model {name!r} means version {number}; it has {_numbers(versions)}"
            raise NotFound(text, model=name)
        return versions[number]

    def _newest(self, name: str, versions: Mapping[int, Version]) -> Version:
        """The highest available version that passes the gates, else the highest available, else the highest."""
        available = [number for number, v in versions.items() if v.status.state is State.AVAILABLE]
        passing = [number for number in available if not not_passed(self.gates, name, versions[number].metrics)]
        return versions[max(passing or available or versions)]

    def _tell(self, version: Version) -> None:
        for listener in self.listeners:
            listener(version)


def _names(models: Mapping[str, object]) -> str:
    """Up to 8 models by name, and how many more there are."""
    names = sorted(models)
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return (", ".join(names[:8]) or "none") + more


def _numbers(versions: Mapping[int, Version]) -> str:
    return ", ".join(map(str, sorted(versions)))


def _load(plugin: PluginInfo) -> str:
    """How an operator brings in what was not served."""
    return f"load it with `mercato admin load --plugin {plugin.distribution}`"
