"""The catalog: which versions of which models there are, in what state, and how a name finds one."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mercato_plugin import ModelSpec
from mercato_plugin.frozen import schema_fingerprint
from mercato_server.contract.certificate import Certificate
from mercato_server.contract.plugin import PluginInfo, Refusal
from mercato_server.contract.state import STARTING, State, Status
from mercato_server.errors import Draining, InvalidRequest, LabelRefused, ModelFailed, ModelNotReady, NotFound
from mercato_server.serving.engine import Engine

Listener = Callable[["Version"], None]

MAX_SHOWN = 80
_LABEL = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(eq=False)
class Version:
    """One version of one model. Digest and certificate are set on LOADING, the engine before AVAILABLE.

    `default_deadline`, in seconds, holds for callers that set none; None is the data port's own. `nbytes` is the
    memory that it was measured to take while it is loaded, else 0.
    """

    name: str
    number: int
    spec: ModelSpec
    plugin: PluginInfo
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
    """All versions by model name. It alone moves states, and tells its listeners after each move."""

    models: dict[str, dict[int, Version]] = field(default_factory=dict)
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    listeners: list[Listener] = field(default_factory=list)
    draining: bool = False

    def add(self, version: Version) -> Version:
        """Enter a version; one of its name and number that was there is replaced in the same step."""
        self.models.setdefault(version.name, {})[version.number] = version
        self._tell(version)
        return version

    def move(self, version: Version, state: State, reason: str = "") -> None:
        """Move a version on. Raises ValueError on a step that is not legal."""
        version.status = version.status.to(state, reason)
        self._tell(version)

    def set_label(self, name: str, label: str, number: int | None) -> Mapping[str, int]:
        """Move a label to an AVAILABLE version, or take it away for None; gives all labels of the model.

        Raises NotFound, InvalidRequest for what is no label, or LabelRefused.
        """
        if not _LABEL.fullmatch(label):
            text = f"got {shown(label)}, expected at most 64 lower-case letters, digits and _, a letter first"
            raise InvalidRequest.of("label", text, model=name)
        if number is None:
            self._number(name, label)
            del self.labels[name][label]
        else:
            status = self.find(name, number).status
            if status.state is not State.AVAILABLE:
                text = f"model {name!r} version {number} is {status.state.value}; labels move to AVAILABLE versions"
                raise LabelRefused(text, model=name)
            self.labels.setdefault(name, {})[label] = number
        return self.labels[name]

    def versions(self) -> list[Version]:
        """Every version, ordered by model name, newest first."""
        return [v for name in sorted(self.models) for _, v in sorted(self.models[name].items(), reverse=True)]

    def model(self, name: str) -> Mapping[int, Version]:
        """All versions of one model. Raises NotFound."""
        versions = self.models.get(name)
        if not versions:
            raise NotFound(f"there is no model {shown(name)}; there are {_names(self.models)}", model=name)
        return versions

    def find(self, name: str, number: int | None = None, label: str | None = None) -> Version:
        """The version that a reference means. Raises NotFound."""
        versions = self.model(name)
        if label is not None:
            return self._labelled(name, label)
        if number is None:
            is_stable = "stable" in self.labels.get(name, {})
            return self._labelled(name, "stable") if is_stable else self._newest(versions)
        if number not in versions:
            raise NotFound(f"model {name!r} has no version {number}; it has {_numbers(versions)}", model=name)
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

    def _newest(self, versions: Mapping[int, Version]) -> Version:
        """The highest available version, else the highest there is."""
        available = [number for number, v in versions.items() if v.status.state is State.AVAILABLE]
        return versions[max(available or versions)]

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


def shown(text: str) -> str:
    """A caller's word for an error message: quoted, control characters escaped, cut to `MAX_SHOWN` characters."""
    return ascii(text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "...")
