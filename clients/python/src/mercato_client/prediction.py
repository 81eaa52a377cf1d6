"""One answer: named arrays, the model that gave them, and the receipt."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mercato.v1 import prediction_pb2
from mercato_client.catalog import enum_name
from mercato_client.tensors import Array, decode


@dataclass(frozen=True)
class ServedModel:
    """The model that answered. `digest` is the SHA-256 of its artifact, hexadecimal."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True)
class Receipt:
    """The facts of one answer. Times are nanoseconds; pre, compute and post are those of the whole batch.

    `padding` is the share of computed cells that were padding, 0 to 1. `release_reason` is IDLE, JOINED, FULL,
    BISECTED or WINDOW, empty where nothing was run; `cache` HIT, MISS, COALESCED or PARTIAL, empty for a model without
    a cache. `truncations` maps an input to the number of its rows that were cut to the model's limit. `batches` counts
    those in which the request's rows were run: times are then sums, `queue_ns` is the longest wait and `batch_rows` the
    largest batch. `cached_rows` were not run for this request. `digest` is the SHA-256 of the artifact, hexadecimal.
    """

    queue_ns: int
    pre_ns: int
    compute_ns: int
    post_ns: int
    batch_rows: int
    padding: float
    release_reason: str
    provider: str
    cache: str = ""
    truncations: Mapping[str, int] = field(default_factory=dict)
    batches: int = 1
    cached_rows: int = 0
    digest: str = ""


class Prediction(Mapping[str, Array]):
    """Output name to array: numbers in their dtype, text and labels as objects of str, read-only.

    `receipt` is None unless it was asked for.
    """

    def __init__(
        self, outputs: Mapping[str, Array], model: ServedModel, receipt: Receipt | None, request_id: str
    ) -> None:
        self._outputs = dict(outputs)
        self.model = model
        self.receipt = receipt
        self.request_id = request_id

    def __getitem__(self, output: str) -> Array:
        return self._outputs[output]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def __repr__(self) -> str:
        outputs = ", ".join(f"{name}: {array.dtype}{list(array.shape)}" for name, array in self.items())
        return f"Prediction({self.model.name} v{self.model.version}, {outputs})"


def to_prediction(message: prediction_pb2.PredictResponse) -> Prediction:
    """The answer that a message holds. Raises ServerError when it cannot be read."""
    served = ServedModel(message.model.name, message.model.version, message.model.digest)
    receipt = _receipt(message.receipt) if message.HasField("receipt") else None
    outputs = {output.name: decode(output.tensor) for output in message.outputs}
    return Prediction(outputs, served, receipt, message.request_id)


def _receipt(message: prediction_pb2.Receipt) -> Receipt:
    return Receipt(
        queue_ns=message.queue_ns,
        pre_ns=message.pre_ns,
        compute_ns=message.compute_ns,
        post_ns=message.post_ns,
        batch_rows=message.batch_rows,
        padding=message.padding,
        release_reason=enum_name(prediction_pb2.ReleaseReason.Name, message.release_reason, "RELEASE_REASON_"),
        provider=message.provider,
        cache=enum_name(prediction_pb2.CacheOutcome.Name, message.cache, "CACHE_OUTCOME_"),
        truncations={item.input: item.rows for item in message.truncations},
        batches=message.batches,
        cached_rows=message.cached_rows,
        digest=message.digest,
    )
