"""A plugin and its models as discovery leaves them behind: plain values, no hooks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mercato_plugin import Model, ModelSpec


@dataclass(frozen=True)
class PluginInfo:
    """An installed distribution with an entry point in the group, found in metadata alone."""

    distribution: str
    version: str
    entry_point: str
    module: str


@dataclass(frozen=True)
class OfferedModel:
    """One model of one loaded plugin: its object, its specification and its filled settings.

    `given` is what the operator set for the whole distribution, secrets included.
    """

    plugin: PluginInfo
    model: Model
    spec: ModelSpec
    settings: Any = None
    given: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Offer:
    """One model that a loaded plugin offers, as all but its worker know it: plain values.

    `key` is what an export of it, as installed and configured now, is stored under. `given` is what the operator
    set for the whole distribution, secrets included.
    """

    plugin: PluginInfo
    spec: ModelSpec
    key: str
    given: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Refusal:
    """Why a plugin offers nothing: a reason code and a sentence that says what to do."""

    plugin: PluginInfo
    code: str
    reason: str


@dataclass
class Discovery:
    """What is installed: the models that are offered and the plugins that were refused."""

    models: list[OfferedModel] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
