"""What a model is given to run on: the server's own settings, and what the operator set for one model."""

from dataclasses import dataclass, replace

from mercato_plugin import BatchPolicy, ModelSpec
from mercato_server.errors import ConfigError
from mercato_server.runtime.providers import Provider


@dataclass(frozen=True)
class Resources:
    """What one model is given. `max_requests` and `max_request_bytes` bound its queue.

    `batch_rows` and `batch_cost` bound what is joined for it; None is the plugin's own bound. `default_deadline`,
    in seconds, holds for its callers that set none; None is the data port's own.
    """

    provider: Provider
    threads: int
    max_requests: int
    max_request_bytes: int
    batch_rows: int | None = None
    batch_cost: int | None = None
    default_deadline: float | None = None

    def policy(self, spec: ModelSpec) -> BatchPolicy:
        """How requests of a model are joined. Raises ConfigError for a bound above the plugin's own."""
        own = spec.batch
        _check(spec, "batch_rows", self.batch_rows, own.max_rows)
        _check(spec, "batch_cost", self.batch_cost, own.max_cost)
        return replace(own, max_rows=self.batch_rows or own.max_rows, max_cost=self.batch_cost or own.max_cost)


def _check(spec: ModelSpec, name: str, wanted: int | None, own: int | None) -> None:
    if wanted is not None and own is not None and wanted > own:
        raise ConfigError(
            f"[models.{spec.name!r}] {name} is {wanted}, but the plugin declares {own}; expected at most that"
        )
