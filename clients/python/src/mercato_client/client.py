"""The façade: one object to call models with, over one channel."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from mercato.v1 import catalog_pb2, prediction_pb2
from mercato.v1.catalog_pb2_grpc import CatalogServiceStub
from mercato.v1.prediction_pb2_grpc import PredictionServiceStub
from mercato_client import checks
from mercato_client.catalog import to_catalog, to_model
from mercato_client.channel import Deadline, open_channel
from mercato_client.errors import InvalidInput, MercatoError, StaleSchema
from mercato_client.health import Health, HealthCalls
from mercato_client.inputs import encode_inputs, encode_parameters
from mercato_client.prediction import Prediction, to_prediction
from mercato_client.schema import Catalog, Model, Signature
from mercato_client.signatures import Signatures, Target
from mercato_client.status import translated

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class _Ask:
    """The arguments of one predict, before they are encoded."""

    target: Target
    inputs: object
    outputs: Sequence[str]
    parameters: Mapping[str, Any]
    priority: int
    receipt: bool


class Client:
    """A connection to a Mercato server; use it as a context manager, or call `close`.

    `address` is "host:port" or any gRPC target, `timeout` the seconds a call may take when it names none
    itself; a wrong one raises InvalidInput. The connection opens on first use. One client serves all threads
    of a process; once closed it raises InvalidInput.
    """

    def __init__(self, address: str = "localhost:8500", *, timeout: float = 10.0) -> None:
        self.address = checks.address(address)
        self.timeout = checks.seconds(timeout)
        self._channel = open_channel(address)
        self._prediction = PredictionServiceStub(self._channel)
        self._catalog = CatalogServiceStub(self._channel)
        self._health = HealthCalls(self._channel, address)
        self._signatures = Signatures(self._get_model)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        self._channel.close()

    def predict(
        self,
        model: str,
        inputs: object,
        *,
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        priority: int | None = None,
        receipt: bool = False,
    ) -> Prediction:
        """Call a model.

        `inputs` maps input names to values, or is a DataFrame whose columns are the inputs. Plain Python
        values and columns take the model's types; arrays must have them. Texts are str, images bytes or
        `pathlib.Path`; a single item is one row. With neither `version` nor `label` the server chooses.
        `outputs` names the wanted ones, all by default; `priority` 1 is the most urgent.

        Raises a MercatoError: InvalidInput, NotFound, NotReady, Overloaded, DeadlineExceeded,
        Unavailable, StaleSchema, PermissionDenied or ServerError.
        """
        ask = _Ask(
            target=Target(model, version, label),
            inputs=inputs,
            outputs=checks.texts("outputs", () if outputs is None else outputs),
            parameters={} if parameters is None else parameters,
            priority=checks.priority(0 if priority is None else priority),
            receipt=checks.flag("receipt", receipt),
        )
        return self._answer(ask, self._deadline(timeout))

    def models(self) -> list[Model]:
        """Every model the server knows, failed ones included, by name."""
        return list(self.catalog().models)

    def catalog(self) -> Catalog:
        """All models, and the plugins that were refused with the reason."""
        return to_catalog(self._call(self._catalog.ListModels, catalog_pb2.ListModelsRequest(), self._deadline()))

    def model(self, name: str) -> Model:
        """One model as the server describes it now. Raises NotFound."""
        return self._get_model(checks.text("model", name), self._deadline())

    def signature(self, model: str, *, version: int | None = None, label: str | None = None) -> Signature:
        """The signature that `predict` encodes for, asked of the server once. Raises NotFound or NotReady."""
        return self._signatures.find(Target(model, version, label), self._deadline())

    def health(self, model: str = "") -> Health:
        """The health of one model, or of the server. Raises NotFound for an unknown model."""
        return self._health.check(checks.text("model", model), self._deadline())

    def wait_until_ready(self, timeout: float = 60.0, *, model: str = "") -> None:
        """Return once the server, or one model, is SERVING. Raises NotReady or Unavailable after `timeout` seconds."""
        self._health.wait(checks.text("model", model), Deadline(timeout))

    def _answer(self, ask: _Ask, deadline: Deadline) -> Prediction:
        signature = self._signatures.find(ask.target, deadline)
        try:
            return self._send(ask, signature, deadline)
        except (InvalidInput, StaleSchema) as error:
            if not _may_be_stale(error):
                raise
            renewed = self._renewed(ask.target, deadline) or signature
            if renewed.fingerprint == signature.fingerprint:
                raise
        return self._send(ask, renewed, deadline)

    def _renewed(self, target: Target, deadline: Deadline) -> Signature | None:
        try:
            return self._signatures.refresh(target, deadline)
        except MercatoError:
            return None

    def _send(self, ask: _Ask, signature: Signature, deadline: Deadline) -> Prediction:
        return to_prediction(self._call(self._prediction.Predict, _request(ask, signature), deadline))

    def _get_model(self, name: str, deadline: Deadline) -> Model:
        request = catalog_pb2.GetModelRequest(model=prediction_pb2.ModelRef(name=name))
        return to_model(self._call(self._catalog.GetModel, request, deadline).model)

    def _call(self, method: Callable[..., Answer], request: object, deadline: Deadline) -> Answer:
        with translated(self.address):
            return method(request, timeout=deadline.remaining())

    def _deadline(self, timeout: float | None = None) -> Deadline:
        return Deadline(self.timeout if timeout is None else timeout)


def _may_be_stale(error: MercatoError) -> bool:
    """Whether a newer signature may help: the server says so, or the client itself could not encode an input.

    An input that the server refuses is none of these: it compares the signatures before it reads inputs.
    """
    own = isinstance(error, InvalidInput) and not error.reason and error.field.startswith("inputs.")
    return own or isinstance(error, StaleSchema)


def _request(ask: _Ask, signature: Signature) -> prediction_pb2.PredictRequest:
    target = ask.target
    return prediction_pb2.PredictRequest(
        model=_reference(target),
        inputs=encode_inputs(ask.inputs, signature),
        outputs=ask.outputs,
        parameters=encode_parameters(ask.parameters, signature),
        schema_fingerprint=signature.fingerprint,
        priority=ask.priority,
        want_receipt=ask.receipt,
    )


def _reference(target: Target) -> prediction_pb2.ModelRef:
    if target.version is not None:
        return prediction_pb2.ModelRef(name=target.model, version=target.version)
    if target.label is not None:
        return prediction_pb2.ModelRef(name=target.model, label=target.label)
    return prediction_pb2.ModelRef(name=target.model)
