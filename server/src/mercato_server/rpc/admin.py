"""The methods of AdminService: an operator's requests, checked and handed to an Administration."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Container, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from packaging.utils import canonicalize_name

from mercato.v1 import admin_pb2
from mercato_plugin.spec import MAX_NAME, MODEL_NAME
from mercato_server.contract.administration import Administration, LoadedModel, LoadStep, WorkerFacts
from mercato_server.contract.call import Call
from mercato_server.errors import Draining, InvalidRequest, RequestError, Violation
from mercato_server.rpc import request_id
from mercato_server.rpc.catalog import plugin_message, state_number, timestamp
from mercato_server.rpc.interceptor import Handler, Send, TellingHandler
from mercato_server.rpc.wire import Flat, parsed
from mercato_server.serving.catalog import shown

log = logging.getLogger("mercato.admin")

ADMIN = admin_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name

MAX_DISTRIBUTION = 128
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_LABEL = re.compile(r"[a-z][a-z0-9_]*")

Done = TypeVar("Done")


class AdminMethods:
    """The methods over one Administration. `models` holds the names of all models there are.

    What changes something goes on to its end when its caller leaves; only the telling stops.
    """

    def __init__(self, administration: Administration, models: Container[str], max_fields: int) -> None:
        self._administration = administration
        self._models = models
        self._max_fields = max_fields
        self._changes: set[asyncio.Task[Any]] = set()

    def unary(self) -> dict[str, Handler]:
        """The methods that answer once, by name."""
        return {
            "Unload": self.unload,
            "SetLabel": self.set_label,
            "Drain": self.drain,
            "ListWorkers": self.list_workers,
        }

    def telling(self) -> dict[str, TellingHandler]:
        """The methods that answer with many messages, by name."""
        return {"Load": self.load}

    async def load(self, call: Call, send: Send) -> None:
        """Each step of a load as it is reached."""
        request = self._read(admin_pb2.LoadRequest, call)
        target = request.WhichOneof("target")
        if target is None:
            raise InvalidRequest.of("target", "missing; expected a model or a plugin")
        if target == "model":
            _check(_fault("model", request.model), _fault_of_version(request.version))
            self._name(call, request.model)
            steps = self._administration.load(model=request.model, version=request.version or None)
        else:
            _check(_fault("plugin", request.plugin), _fault_of_stray_version(request.version))
            steps = self._administration.load(plugin=canonicalize_name(request.plugin))
        told: asyncio.Queue[LoadStep | None] = asyncio.Queue()
        loading = self._begin(_forward(steps, told))
        with _outliving_its_caller(loading):
            while (step := await told.get()) is not None:
                await send(_step(step).SerializeToString())
            await _ended(loading)

    async def unload(self, call: Call) -> bytes:
        """One version, or all."""
        request = self._read(admin_pb2.UnloadRequest, call)
        _check(_fault("model", request.model), _fault_of_version(request.version))
        self._name(call, request.model)
        unloading = self._begin(self._administration.unload(request.model, request.version or None))
        with _outliving_its_caller(unloading):
            unloaded = await _ended(unloading)
        return admin_pb2.UnloadResponse(versions=unloaded.versions, memory_bytes=unloaded.nbytes).SerializeToString()

    async def set_label(self, call: Call) -> bytes:
        """A label moved, or taken away."""
        request = self._read(admin_pb2.SetLabelRequest, call)
        _check(_fault("model", request.model), _fault("label", request.label), _fault_of_version(request.version))
        self._name(call, request.model)
        labels = self._administration.set_label(request.model, request.label, request.version or None)
        return admin_pb2.SetLabelResponse(labels=labels).SerializeToString()

    async def drain(self, call: Call) -> bytes:
        """The beginning of the end; the answer goes out before it."""
        self._read(admin_pb2.DrainRequest, call)
        return admin_pb2.DrainResponse(requests=self._administration.drain()).SerializeToString()

    async def list_workers(self, call: Call) -> bytes:
        """Every worker."""
        self._read(admin_pb2.ListWorkersRequest, call)
        workers = map(_worker, self._administration.workers())
        return admin_pb2.ListWorkersResponse(workers=workers).SerializeToString()

    async def stop(self) -> None:
        """Give up what still goes on; whoever waits for it is told that the server stops."""
        for change in self._changes:
            change.cancel()
        if self._changes:
            await asyncio.wait(self._changes)

    def _read(self, kind: type[Flat], call: Call) -> Flat:
        request = parsed(kind, call.request, self._max_fields)
        call.request_id = request_id.settled(call.metadata.get("x-request-id", ""))
        return request

    def _name(self, call: Call, model: str) -> None:
        call.model = model if model in self._models else ""

    def _begin(self, change: Coroutine[Any, Any, Done]) -> asyncio.Task[Done]:
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return task


async def _forward(steps: AsyncIterator[LoadStep], told: asyncio.Queue[LoadStep | None]) -> None:
    try:
        async for step in steps:
            told.put_nowait(step)
    finally:
        told.put_nowait(None)


async def _ended(change: asyncio.Task[Done]) -> Done:
    """What a change gives; who waits for it can be cancelled without it."""
    await asyncio.wait([change])
    if change.cancelled():
        raise Draining("the server is stopping; what was asked for was given up")
    return change.result()


@contextmanager
def _outliving_its_caller(change: asyncio.Task[Any]) -> Iterator[None]:
    """What goes wrong once nobody waits for it any more is logged."""
    try:
        yield
    except BaseException:
        if not change.done():
            change.add_done_callback(_log_failure)
        raise


def _log_failure(change: asyncio.Task[Any]) -> None:
    error = None if change.cancelled() else change.exception()
    if error is not None:
        unforeseen = None if isinstance(error, RequestError) else error
        text = str(error) if unforeseen is None else "internal error"
        log.error("failed after its caller had left: %s", text, exc_info=unforeseen)


_NAMES = {
    "model": (MODEL_NAME, MAX_NAME, "the name of a model, such as pricing.linear"),
    "plugin": (_DISTRIBUTION, MAX_DISTRIBUTION, "the name of an installed distribution, such as mercato-pricing"),
    "label": (_LABEL, MAX_NAME, "a label of lower-case letters, digits and underscores, such as stable"),
}


def _fault(field: str, name: str) -> Violation | None:
    form, length, expected = _NAMES[field]
    if form.fullmatch(name) and len(name) <= length:
        return None
    return Violation(field, f"got {shown(name)}, expected {expected}, of at most {length} characters")


def _fault_of_version(number: int) -> Violation | None:
    return None if number >= 0 else Violation("version", f"got {number}, expected a version's number, or 0")


def _fault_of_stray_version(number: int) -> Violation | None:
    return Violation("version", f"got {number} of a plugin, expected it with a model alone") if number else None


def _check(*faults: Violation | None) -> None:
    if found := [fault for fault in faults if fault is not None]:
        raise InvalidRequest(found)


def _step(step: LoadStep) -> admin_pb2.LoadResponse:
    return admin_pb2.LoadResponse(
        model=step.model,
        version=step.version,
        state=state_number(step.state),
        step=step.step,
        done=step.done,
        total=step.total,
        digest=step.digest,
        reason=step.reason,
    )


def _worker(worker: WorkerFacts) -> admin_pb2.Worker:
    return admin_pb2.Worker(
        plugin=plugin_message(worker.plugin),
        isolation=worker.isolation,
        pid=worker.pid,
        started=timestamp(worker.started),
        restarts=worker.restarts,
        last_crash=worker.last_crash,
        memory_bytes=worker.nbytes,
        models=map(_loaded, worker.models),
    )


def _loaded(model: LoadedModel) -> admin_pb2.LoadedModel:
    return admin_pb2.LoadedModel(
        model=model.model, version=model.version, state=state_number(model.state), memory_bytes=model.nbytes
    )
