"""What each call of a client does, step by step and without doing any I/O, so that all clients share it."""

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from mercato.v1 import catalog_pb2, prediction_pb2
from mercato.v1.catalog_pb2_grpc import CatalogServiceStub
from mercato.v1.prediction_pb2_grpc import PredictionServiceStub
from mercato_client import checks
from mercato_client.catalog import to_catalog, to_model
from mercato_client.channel import Deadline, Endpoint
from mercato_client.encoder import Encoder
from mercato_client.errors import InvalidInput, MercatoError, StaleSchema
from mercato_client.health import Health, HealthCalls, Pause, Read
from mercato_client.prediction import Prediction, to_prediction
from mercato_client.schema import Catalog, Model, Signature
from mercato_client.signatures import Signatures, Target

Result = TypeVar("Result")

Plan = Generator[Any, Any, Result]
"""Yields steps, gets the reply to each or has the MercatoError thrown into it that it led to, returns the result."""

Send = Callable[[prediction_pb2.PredictRequest, Deadline], Any]
"""Makes the step that sends a request and replies with its PredictResponse."""


class Ask(NamedTuple):
    """The arguments of one predict as the caller gave them."""

    model: str
    inputs: object
    version: int | None
    label: str | None
    outputs: Sequence[str] | None
    parameters: Mapping[str, Any] | None
    timeout: float | None
    priority: int | None
    receipt: bool


class Walk(Generic[Result]):
    """A plan under way: `step` is what it wants done, None once it has ended with `result`."""

    __slots__ = ("_plan", "result", "step")

    def __init__(self, plan: Plan[Result]) -> None:
        self._plan = plan
        self.step: Any = None
        self.result: Result | None = None

    def resume(self, outcome: object = None) -> None:
        """Tell how the last step ended, with None at the beginning. Raises what the plan raises."""
        try:
            if isinstance(outcome, MercatoError):
                self.step = self._plan.throw(outcome)
            else:
                self.step = self._plan.send(outcome)
        except StopIteration as end:
            self.step, self.result = None, end.value


class Plans:
    """The plans of one client. Steps are functions to call, whose results an asynchronous client awaits.

    `timeout` in seconds counts where a call names none. `read` gives the next message of a stream, None at its end;
    `pause` does nothing for some seconds, and raises where the client has been closed meanwhile.
    """

    def __init__(self, channel: Any, endpoint: Endpoint, timeout: float, read: Read, pause: Pause) -> None:
        self._prediction = PredictionServiceStub(channel)
        self._catalog = CatalogServiceStub(channel)
        self._health = HealthCalls(channel, str(endpoint), read, pause)
        self._timeout = timeout
        self._signatures = Signatures()

    def predict(self, ask: Ask, send: Send | None = None) -> Plan[Prediction]:
        """Ask one model; a signature that has changed is fetched and the call repeated once."""
        deadline = self._deadline(ask.timeout)
        target = Target(ask.model, ask.version, ask.label)
        send = send or self._unary
        encoder = self._signatures.find(target) or (yield from self._refreshed(target, deadline))
        try:
            return to_prediction((yield send(_request(ask, target, encoder), deadline)))
        except (InvalidInput, StaleSchema) as error:
            if not may_be_stale(error):
                raise
            renewed = (yield from self._renewed(target, encoder, deadline)) or encoder
            if renewed.signature.fingerprint == encoder.signature.fingerprint:
                raise
        return to_prediction((yield send(_request(ask, target, renewed), deadline)))

    def models(self) -> Plan[list[Model]]:
        """All models by name."""
        return list((yield from self.catalog()).models)

    def catalog(self) -> Plan[Catalog]:
        """Models and refused plugins."""
        timeout = self._deadline().remaining()
        return to_catalog((yield partial(self._catalog.ListModels, catalog_pb2.ListModelsRequest(), timeout=timeout)))

    def model(self, name: str, deadline: Deadline | None = None) -> Plan[Model]:
        """One model."""
        request = catalog_pb2.GetModelRequest(model=prediction_pb2.ModelRef(name=checks.text("model", name)))
        timeout = (deadline or self._deadline()).remaining()
        return to_model((yield partial(self._catalog.GetModel, request, timeout=timeout)).model)

    def signature(self, model: str, version: int | None, label: str | None) -> Plan[Signature]:
        """The signature that `predict` encodes for."""
        target = Target(model, version, label)
        encoder = self._signatures.find(target) or (yield from self._refreshed(target, self._deadline()))
        return encoder.signature

    def health(self, model: str) -> Plan[Health]:
        """The health now."""
        return (yield from self._health.check(checks.text("model", model), self._deadline()))

    def wait(self, timeout: float, model: str) -> Plan[None]:
        """Wait for SERVING."""
        yield from self._health.wait(checks.text("model", model), Deadline(timeout))

    def _refreshed(self, target: Target, deadline: Deadline) -> Plan[Encoder]:
        return self._signatures.learn((yield from self.model(target.model, deadline)), target)

    def _renewed(self, target: Target, stale: Encoder, deadline: Deadline) -> Plan[Encoder | None]:
        """A newer encoder; another call may have fetched it already. None where the server does not answer."""
        known = self._signatures.find(target)
        if known and known.signature.fingerprint != stale.signature.fingerprint:
            return known
        try:
            return (yield from self._refreshed(target, deadline))
        except MercatoError:
            return None

    def _unary(self, request: prediction_pb2.PredictRequest, deadline: Deadline) -> Callable[[], Any]:
        return partial(self._prediction.Predict, request, timeout=deadline.remaining())

    def _deadline(self, timeout: float | None = None) -> Deadline:
        return Deadline(self._timeout if timeout is None else timeout)


def may_be_stale(error: MercatoError) -> bool:
    """Whether a newer signature may help: the server says so, or the client itself could not encode an input.

    An input that the server refuses is none of these: it compares the signatures before it reads inputs.
    """
    own = isinstance(error, InvalidInput) and not error.reason and error.field.startswith("inputs.")
    return own or isinstance(error, StaleSchema)


def _request(ask: Ask, target: Target, encoder: Encoder) -> prediction_pb2.PredictRequest:
    request = encoder.request(ask.inputs, {} if ask.parameters is None else ask.parameters)
    request.model.name = target.model
    if target.version is not None:
        request.model.version = target.version
    if target.label is not None:
        request.model.label = target.label
    if ask.outputs is not None:
        request.outputs.extend(checks.texts("outputs", ask.outputs))
    if ask.priority is not None:
        request.priority = checks.priority(ask.priority)
    if checks.flag("receipt", ask.receipt):
        request.want_receipt = True
    return request
