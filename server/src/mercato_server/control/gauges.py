"""What a scrape is told of models and server; it asks from a thread of its own."""

from importlib.metadata import version as installed

from mercato_server.contract.state import State
from mercato_server.serving.catalog import Catalog, Version
from mercato_server.telemetry.facts import Facts, Load, ModelFacts

VERSION = installed("mercato-server")
STATES = tuple(state.value for state in State)


def facts(catalog: Catalog, *, exports_failed: int, streams: int, expiry: float | None = None) -> Facts:
    """The figures of this moment. Each dictionary that the event loop may change meanwhile is copied first."""
    versions = [version for by_number in catalog.models.copy().values() for version in by_number.copy().values()]
    return Facts(
        version=VERSION,
        states=STATES,
        models=list(map(_model, versions)),
        refused=[(refusal.plugin.distribution, refusal.code) for refusal in catalog.refused.copy()],
        exports_failed=exports_failed,
        streams=streams,
        expiry=expiry,
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
    )


def _load(version: Version) -> Load | None:
    batcher, admission = version.batcher, version.admission
    if batcher is None or admission is None:
        return None
    return Load(batcher.tally, batcher.queued(), admission.requests, admission.bytes)
