"""A plugin and its models as discovery leaves them behind: plain values, no hooks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mercato_plugin import FolderError, Model, ModelFolder, ModelSpec

Folders = Callable[[str], Mapping[int, ModelFolder | FolderError] | None]
"""From a model's name to those of its folders that are served, by version, each with what is wrong where it cannot be
read. None for a model that has no folder at all. Raises FolderError where they cannot be listed."""

Numbered = tuple[str, int]
"""A model's name and a version."""


@dataclass(frozen=True)
class PluginInfo:
    """An installed distribution with an entry point in the group, found in metadata alone."""

    distribution: str
    version: str
    entry_point: str
    module: str


@dataclass(frozen=True)
class Trained:
    """What is known of the model folder that a version is built from. `digest` covers names and contents of `files`."""

    files: Path
    digest: str
    metrics: Mapping[str, float]

    @classmethod
    def of(cls, folder: ModelFolder) -> "Trained":
        """The facts of a folder."""
        return cls(folder.files, folder.digest, folder.metrics)


@dataclass(frozen=True)
class OfferedModel:
    """One version of one model of one loaded plugin: the model's object, its specification and its filled settings.

    `given` is what the operator set for the whole distribution, secrets included. `trained` is None for a version that
    was installed without a model folder.
    """

    plugin: PluginInfo
    model: Model
    spec: ModelSpec
    settings: Any = None
    given: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    trained: Trained | None = None


@dataclass(frozen=True)
class Offer:
    """One version of one model that a loaded plugin offers, as all but its worker know it: plain values.

    `key` is what an export of it, as installed and configured now, is stored under. `given` is what the operator
    set for the whole distribution, secrets included. `trained` is as in OfferedModel.
    """

    plugin: PluginInfo
    spec: ModelSpec
    key: str
    given: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    trained: Trained | None = None

    @property
    def metrics(self) -> Mapping[str, float]:
        """Those of its model folder as it is now."""
        return self.trained.metrics if self.trained is not None else {}


@dataclass(frozen=True)
class Refusal:
    """Why a plugin offers nothing: a reason code and a sentence that says what to do.

    With a `model` it is that model alone which is refused, with a `version` that version alone.
    """

    plugin: PluginInfo
    code: str
    reason: str
    model: str = ""
    version: int = 0

    @property
    def what(self) -> str:
        """The model and the version that are refused alone, as an error message names them; "" for a whole plugin."""
        version = f" version {self.version}" if self.version else ""
        return f"model {self.model!r}{version}" if self.model else ""


BY_HAND = "write its folder with mercato_plugin.publish_folder"


@dataclass(frozen=True)
class Untrained:
    """A model that is installed and has no model folder to be built from; `trains` where it defines `train`."""

    plugin: PluginInfo
    model: str
    trains: bool = True

    @property
    def way_out(self) -> str:
        """How it gets a folder."""
        return f"mercato train {self.model} --data ..." if self.trains else f"{BY_HAND}; it defines no train"


@dataclass(frozen=True)
class Offers:
    """What a loaded plugin has for a server: what can be served, and what of it is refused or needs training.

    `source` is the hash of the plugin's files as they are now.
    """

    models: Sequence[Offer] = ()
    refused: Sequence[Refusal] = ()
    untrained: Sequence[Untrained] = ()
    source: str = ""


@dataclass
class Discovery:
    """What is installed, or what one plugin has: what is offered, what is refused, and what needs training."""

    models: list[OfferedModel] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    untrained: list[Untrained] = field(default_factory=list)
