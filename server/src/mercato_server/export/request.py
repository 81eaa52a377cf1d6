"""What the server asks of the export process and what it hears back: plain values, one JSON line each."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mercato_server.contract.plugin import Offer, OfferedModel, PluginInfo
from mercato_server.contract.secrets import received, sent

MAX_MESSAGE = 2000
"""Characters of a failed export's message."""

Step = Literal["build", "export", "certify", "store"]


@dataclass(frozen=True)
class ExportRequest:
    """One model to export. `settings` are what the operator set for its distribution, secrets included.

    The result is published under `key` in the store at `store`. `version` and `files` are the model
    folder's number and its `files/`, None for a model without one, `folder` is its digest.
    """

    plugin: PluginInfo
    model: str
    store: Path
    key: str
    version: int | None = None
    files: Path | None = None
    folder: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, offered: Offer | OfferedModel, store: Path, key: str) -> "ExportRequest":
        """The request for an installed model as it is configured."""
        spec, trained = offered.spec, offered.trained
        if trained is None:
            return cls(offered.plugin, spec.name, store, key, settings=offered.given)
        return cls(
            offered.plugin, spec.name, store, key, spec.version, trained.files, trained.digest, settings=offered.given
        )

    def to_json(self) -> bytes:
        """One line; `from_json` is its inverse."""
        return json.dumps({**asdict(self), "settings": sent(self.settings)}, default=str).encode() + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> "ExportRequest":
        """The request that `to_json` wrote."""
        data = json.loads(line)
        files = data["files"] and Path(data["files"])
        settings = received(data["settings"])
        plugin = PluginInfo(**data["plugin"])
        return cls(**{**data, "plugin": plugin, "store": Path(data["store"]), "files": files, "settings": settings})


@dataclass(frozen=True)
class Progress:
    """`done` of `total` pieces of one step are done."""

    step: Step
    done: int
    total: int
