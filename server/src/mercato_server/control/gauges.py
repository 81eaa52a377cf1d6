"""What a scrape is told of models and server; it asks from a thread of its own."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version as installed

from mercato_server.contract.administration import WorkerFacts
from mercato_server.contract.state import State
from mercato_server.serving.catalog import Catalog, Version
from mercato_server.telemetry.facts import CacheLoad, Facts, Load, ModelFacts, WorkerSample

VERSION = installed("mercato-server")
STATES = tuple(state.value for state in State)


def facts(
    catalog: Catalog,
    *,
    exports_failed: int,
    streams: int,
    expiry: float | None = None,
    workers: Sequence[WorkerFacts] = (),
    memory_limit: int | None = None,
) -> Facts:
    """The figures of this moment. Each dictionary that the event loop may change meanwhile is copied first."""
    versions = [version for by_number in catalog.models.copy().values() for version in by_number.copy().values()]
    return Facts(
        version=VERSION,
        states=STATES,
        models=list(map(_model, versions)),
        refused=sorted({(refusal.plugin.distribution, refusal.code) for refusal in catalog.refused.copy()}),
        exports_failed=exports_failed,
        streams=streams,
        expiry=expiry,
        workers=list(_workers(workers)),
        memory_limit=memory_limit,
    )


def _model(version: Version) -> ModelFacts:
    return ModelFacts(
        model=version.name,
        version=version.number,
        plugin=version.plugin.distribution,
        plugin_version=version.plugin.version,
        provider=version.providers[0] if version.providers else "",
        digest=version.digest,
        state=version.status.state.value,
        since=version.status.since,
        load=_load(version),
        nbytes=version.nbytes,
    )


def _workers(workers: Iterable[WorkerFacts]) -> Iterator[WorkerSample]:
    """One sample per plugin, which has two workers while a load takes the place of what serves."""
    ordered = sorted(workers, key=_kind)
    for (plugin, isolation), group in itertools.groupby(ordered, _kind):
        of_plugin = list(group)
        sizes = {worker.pid: worker.nbytes for worker in of_plugin if _is_alive(worker)}
        restarts = max(worker.restarts for worker in of_plugin)
        yield WorkerSample(plugin, isolation, bool(sizes), sum(sizes.values()), restarts)


def _kind(worker: WorkerFacts) -> tuple[str, str]:
    return worker.plugin.distribution, worker.isolation


def _is_alive(worker: WorkerFacts) -> bool:
    """A process that has ended holds nothing; one that holds this server lives as long as it."""
    return worker.pid > 0 and (worker.nbytes > 0 or worker.isolation == "inline")


def _load(version: Version) -> Load | None:
    engine = version.engine
    if engine is None:
        return None
    cache = None if engine.cache is None else CacheLoad(engine.cache.hits, engine.cache.misses, engine.cache.nbytes)
    pool, batcher = engine.pool, engine.batcher
    return Load(batcher.tally, batcher.queued(), pool.requests, pool.bytes, engine.refused.copy(), cache)
