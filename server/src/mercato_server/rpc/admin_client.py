"""The operator's side of the admin listener: one blocking call per method, errors as the Python client has them."""

# grpc's classes are generic in their stubs only, so annotations must stay unevaluated.
from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from mercato.v1 import admin_pb2, admin_pb2_grpc, catalog_pb2
from mercato_client import checks
from mercato_client.channel import MAX_MESSAGE_BYTES, Endpoint
from mercato_client.errors import InvalidInput, NotReady, ServerError, Unavailable
from mercato_client.status import translate
from mercato_server.contract.administration import LoadedModel, LoadStep, Unloaded, WorkerFacts
from mercato_server.contract.plugin import PluginInfo
from mercato_server.contract.state import State
from mercato_server.errors import ConfigError
from mercato_server.rpc import admin_socket
from mercato_server.telemetry.logs import printable

Answer = TypeVar("Answer", bound=Message)
# Of calls that change nothing for long, in seconds.
SHORT = 10.0


class AdminClient:
    """A connection to `unix:/path` or `host:port`; every call raises mercato_client.errors.MercatoError.

    `timeout` in seconds is that of each call; without it loads and unloads have none, the others `SHORT`.
    """

    def __init__(self, address: str, timeout: float | None = None) -> None:
        self._address = printable(address)
        self._timeout = None if timeout is None else checks.seconds(timeout)
        target = address
        if address.startswith(admin_socket.SCHEME):
            path = Path(address.removeprefix(admin_socket.SCHEME))
            _check_path(path)
            target = admin_socket.address(path)
        self._channel = Endpoint(target, None, MAX_MESSAGE_BYTES).open(grpc)
        self._stub = admin_pb2_grpc.AdminServiceStub(self._channel)

    def __enter__(self) -> AdminClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def load(self, *, model: str = "", version: int | None = None, plugin: str = "") -> Iterator[LoadStep]:
        """Each step of a load as it is reached."""
        target = {"model": checks.text("model", model)} if model else {"plugin": checks.text("plugin", plugin)}
        with self._translated():
            request = admin_pb2.LoadRequest(**target, version=version or 0)
            for answer in self._stub.Load(request, timeout=self._timeout):
                yield _step(answer)

    def unload(self, model: str, version: int | None) -> Unloaded:
        """Unload one version, or all."""
        request = admin_pb2.UnloadRequest(model=checks.text("model", model), version=version or 0)
        with self._translated():
            answer = self._stub.Unload(request, timeout=self._timeout)
        return Unloaded(tuple(answer.versions), answer.memory_bytes)

    def set_label(self, model: str, label: str, version: int | None) -> Mapping[str, int]:
        """Move a label, or take it away; gives all labels of the model."""
        name, given = checks.text("model", model), checks.text("label", label)
        request = admin_pb2.SetLabelRequest(model=name, label=given, version=version or 0)
        return dict(self._short(self._stub.SetLabel, request).labels)

    def drain(self) -> int:
        """Begin to end the server; gives the number of requests that are still to be answered."""
        return int(self._short(self._stub.Drain, admin_pb2.DrainRequest()).requests)

    def workers(self) -> list[WorkerFacts]:
        """Every worker."""
        return [_worker(item) for item in self._short(self._stub.ListWorkers, admin_pb2.ListWorkersRequest()).workers]

    def _short(self, method: Callable[..., Answer], request: Message) -> Answer:
        with self._translated():
            return method(request, timeout=SHORT if self._timeout is None else self._timeout)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """A load or a label that was refused is not a model that will be ready later."""
        try:
            yield
        except grpc.RpcError as error:
            raised = translate(error, self._address)
            if isinstance(raised, NotReady):
                raised = ServerError(raised.message, reason=raised.reason)
            raise raised from error


def _check_path(path: Path) -> None:
    """A folder of somebody else's may hold somebody else's server. Raises InvalidInput, Unavailable."""
    size, most = len(os.fsencode(path)), admin_socket.MAX_PATH_BYTES
    if size > most:
        raise InvalidInput(f"the path of the admin socket has {size} bytes, expected at most {most}")
    if not _is_missing(path.parent):
        try:
            admin_socket.check_folder(path.parent)
        except ConfigError as error:
            raise Unavailable(str(error)) from None


def _is_missing(folder: Path) -> bool:
    """Whether there is no server, as gRPC says itself."""
    try:
        folder.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _step(answer: admin_pb2.LoadResponse) -> LoadStep:
    return LoadStep(
        model=answer.model,
        version=answer.version,
        state=_state(answer.state),
        step=answer.step,
        done=answer.done,
        total=answer.total,
        digest=answer.digest,
        reason=answer.reason,
    )


def _worker(item: admin_pb2.Worker) -> WorkerFacts:
    return WorkerFacts(
        plugin=PluginInfo(item.plugin.distribution, item.plugin.version, "", ""),
        isolation=item.isolation,
        pid=item.pid,
        started=item.started.ToNanoseconds() / 1e9,
        restarts=item.restarts,
        last_crash=item.last_crash,
        nbytes=item.memory_bytes,
        models=[LoadedModel(m.model, m.version, _state(m.state), m.memory_bytes) for m in item.models],
    )


def _state(number: catalog_pb2.ModelState.ValueType) -> State:
    return State(catalog_pb2.ModelState.Name(number).removeprefix("MODEL_STATE_"))
