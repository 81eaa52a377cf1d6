"""What a scrape reads besides the tallies: the state of models and server at that moment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mercato_server.telemetry.tally import BatchTally


@dataclass(frozen=True)
class CacheLoad:
    """What a cache has done: rows that were known, rows that were not, and the bytes that it holds."""

    hits: int
    misses: int
    nbytes: int


@dataclass(frozen=True)
class Load:
    """What one model version that can serve is busy with; `refused` counts requests by reason."""

    tally: BatchTally
    queued: int
    requests: int
    bytes: int
    refused: Mapping[str, int] = field(default_factory=dict)
    cache: CacheLoad | None = None


@dataclass(frozen=True)
class ModelFacts:
    """One model version. `since` is in wall-clock seconds; `load` is None before it can serve.

    `nbytes` is the memory that it was measured to take, 0 until then.
    """

    model: str
    version: int
    plugin: str
    plugin_version: str
    provider: str
    digest: str
    state: str
    since: float
    load: Load | None
    nbytes: int = 0


@dataclass(frozen=True)
class WorkerSample:
    """One plugin's worker. `nbytes` is the resident memory of its process, `restarts` counts since the server started.

    `is_alive` does not hold while the worker is about to be started again, nor after it was given up.
    """

    plugin: str
    isolation: str
    is_alive: bool
    nbytes: int
    restarts: int


@dataclass(frozen=True)
class Facts:
    """The server. `refused` are pairs of plugin and reason code, `states` all states that a model may have.

    `expiry` is that of the certificate in use, in Unix time, None without TLS. `workers` has each plugin once.
    `memory_limit` is in bytes, None when there is none.
    """

    version: str
    states: Sequence[str]
    models: Sequence[ModelFacts]
    refused: Sequence[tuple[str, str]]
    exports_failed: int
    streams: int
    expiry: float | None = None
    workers: Sequence[WorkerSample] = ()
    memory_limit: int | None = None
