"""Predict: decode, submit, encode; nothing else."""

import asyncio
import time
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from mercato.v1 import prediction_pb2
from mercato_plugin import ModelSpec
from mercato_server.contract.call import Call
from mercato_server.contract.receipt import Receipt
from mercato_server.errors import DeadlineExpired, InvalidRequest, SchemaChanged
from mercato_server.rpc import request_id
from mercato_server.rpc.access import Access
from mercato_server.rpc.codec import Decoded, SignatureCodec
from mercato_server.rpc.defaults import fill_absent
from mercato_server.rpc.gathering import Gathering
from mercato_server.rpc.parameters import decode_parameters
from mercato_server.rpc.weight import weigh
from mercato_server.rpc.wire import PREDICT, check_field_count
from mercato_server.serving.catalog import Catalog, Version
from mercato_server.serving.ranking import best
from mercato_server.serving.request import Answer, Request

LEAST_PRIORITY = 9
# Seconds; a caller may ask for centuries, which no timer of the event loop takes.
LONGEST_TIMER = 1e6
# Seconds by which the deadlines of a stream's requests may fall though their timeouts are the same: what each has
# waited on its way differs.
JITTER = 0.1

Order = dict[tuple[str, int, int], float]
"""The latest deadline of one stream so far, by model, version and priority."""


class Prediction:
    """The Predict method over one catalog.

    `max_fields` bounds the parts of one message, `max_bytes` an answer.
    """

    def __init__(self, catalog: Catalog, access: Access, max_fields: int, max_bytes: int) -> None:
        self._catalog = catalog
        self._access = access
        self._max_fields = max_fields
        self._max_bytes = max_bytes
        self.gathering = Gathering()
        self._codecs: WeakKeyDictionary[Version, SignatureCodec] = WeakKeyDictionary()

    async def predict(self, call: Call) -> bytes:
        """One request, one answer."""
        self.gathering.enter()
        try:
            await self.gathering.turn()
            pending = self.submit(parse(call.request, self._max_fields), call)
            try:
                return pending.encode(await pending.future)
            finally:
                pending.close()
        finally:
            self.gathering.leave()

    def submit(
        self, message: prediction_pb2.PredictRequest, call: Call, frame_bytes: int = 0, order: Order | None = None
    ) -> "Pending":
        """Queue a request; the answer comes in the future of what is returned. Raises a RequestError.

        `frame_bytes` of an answer's message are taken already, `order` is that of the request's stream.
        """
        call.request_id = request_id.settled(message.request_id or call.metadata.get("x-request-id", ""))
        self._access.check_model(call, message.model.name)
        call.model = self.known(message)
        version = self._version(message)
        call.version = version.number
        if version.default_deadline is not None and not call.bounded:
            call.deadline = call.started + version.default_deadline
        codec = self._codec(version)
        request = _request(message, version, codec, call)
        if order is not None:
            _keep(order, request, version)
        return Pending(message, request, call, version, codec, self._max_bytes - frame_bytes)

    def known(self, message: prediction_pb2.PredictRequest) -> str:
        """The name of the request's model, "" when there is none of that name."""
        return message.model.name if message.model.name in self._catalog.models else ""

    def largest_answer(self, message: prediction_pb2.PredictRequest) -> int:
        """Most bytes that the answer can take, from the signature and the shapes as they are claimed."""
        sizes = [
            self._codec(version).answer_bytes(_claimed_rows(message))
            for version in self._catalog.models.get(message.model.name, {}).values()
            if version.engine is not None  # loading settles the signature, and no other version answers
        ]
        known = [self._max_bytes if size is None else size for size in sizes]
        return min(max(known, default=0), self._max_bytes)

    async def settle_arrivals(self) -> None:
        """Return when every call that has arrived was admitted or refused."""
        self.gathering.release()
        await asyncio.sleep(0)

    def _version(self, message: prediction_pb2.PredictRequest) -> Version:
        reference = message.model
        selector = reference.WhichOneof("selector")
        version = self._catalog.resolve(
            reference.name,
            reference.version if selector == "version" else None,
            reference.label if selector == "label" else None,
        )
        _check_schema(message.schema_fingerprint, version)
        return version

    def _codec(self, version: Version) -> SignatureCodec:
        codec = self._codecs.get(version)
        if codec is None:
            codec = self._codecs[version] = SignatureCodec(version.spec)
        return codec


class Pending:
    """One accepted request: it has its permit until `close`. Raises what `Engine.submit` raises."""

    __slots__ = ("_call", "_codec", "_max_bytes", "_message", "_request", "_timer", "_version", "future")

    def __init__(
        self,
        message: prediction_pb2.PredictRequest,
        request: Request,
        call: Call,
        version: Version,
        codec: SignatureCodec,
        max_bytes: int,
    ) -> None:
        assert version.engine is not None
        self._message = message
        self._call = call
        self._version = version
        self._codec = codec
        self._max_bytes = max_bytes
        self._request = request
        self.future = version.engine.submit(request)
        self._timer = self._deadline(request.deadline)

    def encode(self, answer: Answer) -> bytes:
        """The answer as an encoded PredictResponse. Raises InvalidRequest for one that no message can hold."""
        self._call.receipt = answer.receipt
        if top_k := self._version.spec.top_k:
            answer = answer._replace(outputs=best(answer.outputs, top_k, self._request.k))
        encoded = _response(self._message, self._version, self._codec, answer, self._call.request_id)
        if len(encoded) > self._max_bytes:
            text = f"the answer takes {len(encoded)} bytes, expected at most {self._max_bytes}"
            text += "; send fewer rows or name fewer outputs"
            raise InvalidRequest.of("outputs", text, model=self._version.name)
        return encoded

    def close(self) -> None:
        """Give the permit back; what has not been run is not run any more."""
        if not self.future.cancel() and not self.future.cancelled():
            self.future.exception()  # asked for here, since nobody may ask for it any more
        if self._timer is not None:
            self._timer.cancel()
        if self._request.permit is not None:  # rows that are known need none
            self._request.permit.release()

    def _deadline(self, deadline: float) -> asyncio.TimerHandle | None:
        if self._call.bounded and deadline >= self._call.deadline:
            return None  # the transport cancels us
        seconds = min(deadline - time.monotonic(), LONGEST_TIMER)
        return self.future.get_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        if not self.future.done():
            text = f"model {self._version.name!r}: the answer was not ready in time; the request may have run"
            self.future.set_exception(DeadlineExpired(text, model=self._version.name))


def parse(data: bytes, max_fields: int) -> prediction_pb2.PredictRequest:
    """The request message. Raises InvalidRequest for bytes that are none, or hold too many fields."""
    check_field_count(data, PREDICT, max_fields)
    try:
        return prediction_pb2.PredictRequest.FromString(data)
    except DecodeError:
        raise InvalidRequest.of("request", "the bytes are not a valid PredictRequest") from None


def _check_schema(fingerprint: str, version: Version) -> None:
    if fingerprint and fingerprint != version.fingerprint:
        raise SchemaChanged(
            f"model {version.name!r} version {version.number} has another signature than the caller was made for: "
            f"got fingerprint {fingerprint[:64]!a}, expected {version.fingerprint}; generate the client again",
            model=version.name,
            expected=version.fingerprint,
            got=fingerprint,
        )


def _keep(order: Order, request: Request, version: Version) -> None:
    """Have a request of a stream stand behind the earlier ones, unless its deadline is earlier for a reason."""
    key = version.name, version.number, request.priority
    latest = order.get(key, request.deadline)
    if latest - JITTER <= request.deadline:
        request.urgency = order[key] = max(request.urgency, latest)


def _request(message: prediction_pb2.PredictRequest, version: Version, codec: SignatureCodec, call: Call) -> Request:
    spec = codec.spec
    priority = _priority(message, version)
    codec.check_wanted(message.outputs)
    parameters = decode_parameters(spec, message.parameters) if spec.parameters or message.parameters else {}
    k = parameters.pop(spec.top_k.k) if spec.top_k else 0  # of no concern to the batch
    decoded = codec.decode(message.inputs)
    inputs, present = fill_absent(spec, decoded)
    cost, costs = weigh(spec, decoded)
    return Request(
        inputs=inputs,
        rows=decoded.rows,
        deadline=_deadline(message, call, spec.name),
        group=_group(codec, decoded, parameters),
        cost=cost,
        nbytes=_held(decoded, call.nbytes),
        priority=priority,
        parameters=parameters,
        lengths=decoded.lengths,
        present=present,
        truncations=decoded.truncations,
        costs=costs,
        caller=call.caller,
        outputs=_computed(spec, message.outputs),
        k=k,
    )


def _priority(message: prediction_pb2.PredictRequest, version: Version) -> int:
    assert version.engine is not None
    if message.priority > LEAST_PRIORITY:
        text = f"got {message.priority}, expected 0 to {LEAST_PRIORITY}"
        raise InvalidRequest.of("priority", text, model=version.name)
    return message.priority or version.engine.priority


def _computed(spec: ModelSpec, wanted: Sequence[str]) -> tuple[str, ...]:
    """The model's own outputs that an answer with the wanted ones is made of; none stands for all."""
    if not wanted or spec.top_k is None:
        return tuple(wanted)
    return tuple({*wanted, spec.top_k.by} - {spec.top_k.index})


def _deadline(message: prediction_pb2.PredictRequest, call: Call, model: str) -> float:
    """The earlier of what the caller set: the call's own deadline and the request's timeout; else the default.

    Raises InvalidRequest for a timeout that is none, DeadlineExpired when it has passed.
    """
    now, deadline = time.monotonic(), call.deadline
    if message.HasField("timeout"):
        given = now + _seconds(message.timeout, model)
        deadline = min(deadline, given) if call.bounded else given
    if deadline <= now:
        raise DeadlineExpired(f"model {model!r}: the deadline had passed on arrival, nothing was run", model=model)
    return deadline


def _seconds(timeout: Duration, model: str) -> float:
    if timeout.seconds < 0 or not 0 <= timeout.nanos < 10**9:
        text = f"got {timeout.seconds} s and {timeout.nanos} ns, expected neither below 0 and less than 10^9 ns"
        raise InvalidRequest.of("timeout", text, model=model)
    return timeout.seconds + timeout.nanos / 1e9


def _claimed_rows(message: prediction_pb2.PredictRequest) -> int:
    """The first size of the longest input; no more rows can come to be run."""
    return max((named.tensor.shape[0] for named in message.inputs if named.tensor.shape), default=1)


def _group(codec: SignatureCodec, decoded: Decoded, parameters: dict[str, object]) -> tuple[object, ...]:
    """Equal for requests that may share a batch: same parameter values, same sizes of free axes."""
    values = tuple(value for name, value in parameters.items() if not codec.spec.parameters[name].per_row)
    free = ((decoded.arrays.get(name), offset) for name, offset in codec.free_inputs)
    return (*values, *(None if array is None else array.shape[offset:] for array, offset in free))


def _held(decoded: Decoded, sent: int) -> int:
    """What the request holds while it waits: its message, or its arrays where padding has made them larger."""
    return max(sent, sum(array.nbytes for array in decoded.arrays.values()))


def _response(
    message: prediction_pb2.PredictRequest, version: Version, codec: SignatureCodec, answer: Answer, answered_id: str
) -> bytes:
    response = prediction_pb2.PredictResponse(
        model=prediction_pb2.ServedModel(name=version.name, version=version.number, digest=version.digest),
        outputs=codec.encode(answer.outputs, message.outputs),
        receipt=_receipt(answer.receipt, version.digest) if message.want_receipt else None,
        request_id=answered_id,
    )
    return response.SerializeToString()


def _receipt(receipt: Receipt, digest: str) -> prediction_pb2.Receipt:
    return prediction_pb2.Receipt(
        queue_ns=receipt.queue_ns,
        pre_ns=receipt.pre_ns,
        compute_ns=receipt.compute_ns,
        post_ns=receipt.post_ns,
        batch_rows=receipt.batch_rows,
        padding=receipt.padding,
        release_reason=prediction_pb2.ReleaseReason.Value(f"RELEASE_REASON_{receipt.release_reason.value}"),
        provider=receipt.provider,
        cache=prediction_pb2.CacheOutcome.Value(f"CACHE_OUTCOME_{receipt.cache.value}"),
        truncations=[prediction_pb2.Truncation(input=n, rows=r) for n, r in receipt.truncations.items()],
        batches=receipt.batches,
        cached_rows=receipt.cached_rows,
        digest=digest,
    )
