"""What a model is given to run on: the server's own settings, and what the operator set for one model."""

from dataclasses import dataclass, replace

from mercato_plugin import BatchPolicy, ModelSpec
from mercato_server.errors import ConfigError
from mercato_server.runtime.providers import Provider
from mercato_server.serving.engine import Bounds
from mercato_server.serving.request import DEFAULT_PRIORITY


@dataclass(frozen=True)
class Resources:
    """What one model is given. `max_requests` and `max_request_bytes` bound its queue.

    `batch_rows` and `batch_cost` bound what is joined for it; None is the plugin's own bound. `default_deadline`,
    in seconds, and `default_priority` hold for its callers that set none; a deadline of None is the data port's own.
    `latency_target` is in seconds; `cache_bytes` of 0 is no cache.
    """

    provider: Provider
    threads: int
    max_requests: int
    max_request_bytes: int
    batch_rows: int | None = None
    batch_cost: int | None = None
    default_deadline: float | None = None
    default_priority: int = DEFAULT_PRIORITY
    latency_target: float | None = None
    cache_bytes: int = 0

    def policy(self, spec: ModelSpec) -> BatchPolicy:
        """How requests of a model are joined. Raises ConfigError for a bound above the plugin's own."""
        own = spec.batch
        _check(spec, "batch_rows", self.batch_rows, own.max_rows)
        _check(spec, "batch_cost", self.batch_cost, own.max_cost)
        return replace(own, max_rows=self.batch_rows or own.max_rows, max_cost=self.batch_cost or own.max_cost)

    @property
    def bounds(self) -> Bounds:
        """What its engine may hold and is to reach."""
        return Bounds(
            max_requests=self.max_requests,
            max_bytes=self.max_request_bytes,
            priority=self.default_priority,
            latency_target=self.latency_target,
            cache_bytes=self.cache_bytes,
        )


def _check(spec: ModelSpec, name: str, wanted: int | None, own: int | None) -> None:
    if wanted is not None and own is not None and wanted > own:
        raise ConfigError(
            f"[models.{spec.name!r}] {name} is {wanted}, but the plugin declares {own}; expected at most that"
        )
