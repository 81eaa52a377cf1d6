"""What the server asks of the export process and what it hears back: plain values, one JSON line each."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mercato_plugin import Secret
from mercato_server.contract.plugin import OfferedModel, PluginInfo

MAX_MESSAGE = 2000
"""Characters of a failed export's message."""

_MARK = "$secret"

Step = Literal["build", "export", "certify", "store"]


@dataclass(frozen=True)
class ExportRequest:
    """One model to export. `settings` are what the operator set for its distribution, secrets included.

    The result is published under `key` in the store at `store`. `version` and `files` are the model
    folder's number and its `files/`, None for a model without one.
    """

    plugin: PluginInfo
    model: str
    store: Path
    key: str
    version: int | None = None
    files: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, offered: OfferedModel, store: Path, key: str) -> "ExportRequest":
        """The request for an installed model as it is configured."""
        return cls(offered.plugin, offered.spec.name, store, key, settings=offered.given)

    def to_json(self) -> bytes:
        """One line; `from_json` is its inverse."""
        settings = {name: _sent(value) for name, value in self.settings.items()}
        return json.dumps({**asdict(self), "settings": settings}, default=str).encode() + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> "ExportRequest":
        """The request that `to_json` wrote."""
        data = json.loads(line)
        files = data["files"] and Path(data["files"])
        settings = {name: _received(value) for name, value in data["settings"].items()}
        plugin = PluginInfo(**data["plugin"])
        return cls(**{**data, "plugin": plugin, "store": Path(data["store"]), "files": files, "settings": settings})


def _sent(value: Any) -> Any:
    """A secret keeps its kind on the way: the plugin host takes one only as such."""
    return {_MARK: str(value)} if isinstance(value, Secret) else value


def _received(value: Any) -> Any:
    return Secret(value[_MARK]) if isinstance(value, dict) and set(value) == {_MARK} else value


@dataclass(frozen=True)
class Progress:
    """`done` of `total` pieces of one step are done."""

    step: Step
    done: int
    total: int
