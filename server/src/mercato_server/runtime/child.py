"""A version inside a worker process: one worker, and for each front a thread that takes its batches off a link.

Answers go back in the order of the batches. The plugin's code is called by one thread at a time, whatever the number
of fronts.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from mercato_server.contract.batch import BatchResult
from mercato_server.errors import InvalidRequest, MercatoError, PluginFault
from mercato_server.runtime.link import Kind, Link, Message, NoRoom
from mercato_server.runtime.packing import Packed, Unpackable, pack, pack_result, unpack_batch
from mercato_server.runtime.worker import Worker

log = logging.getLogger("mercato.worker")


class Version:
    """One loaded version; `model` names it in errors."""

    def __init__(self, model: str, make: Callable[[], Worker]) -> None:
        self._model = model
        self._make = make
        self._worker: Worker | None = None
        self._turn = threading.Lock()
        self._fronts = 0

    def serve(self, link: Link) -> None:
        """Begin to take a front's messages, on a thread of their own."""
        self._fronts += 1
        threading.Thread(target=self._serve, args=(link,), name=f"worker {self._model}", daemon=True).start()

    def _serve(self, link: Link) -> None:
        """Until the front closes the version or is gone; a link that cannot be read or written ends the process."""
        try:
            while (message := link.receive()) is not None and message.kind != Kind.CLOSE:
                with self._turn:
                    kind, answer = self._answer(link, message)
                self._send(link, kind, message, answer)
            with self._turn:
                self._close()
            if message is not None:
                self._send(link, Kind.DONE, message)
            link.close()
        except BaseException:
            log.critical("the worker lost its line to the server", exc_info=True)
            os._exit(1)

    def _send(self, link: Link, kind: Kind, message: Message, answer: Packed | None = None) -> None:
        """A front that is gone meanwhile is told apart by what is received next."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            try:
                link.send(kind, message.number, answer, slot=message.slot)
            except NoRoom as error:
                fault = PluginFault(f"model {self._model!r}: the answer has no room: {error}", model=self._model)
                log.error("%s", fault, extra={"model": self._model, "fault": fault.id})
                link.send(Kind.FAILED, message.number, pack(failure(fault)), slot=message.slot)

    def _answer(self, link: Link, message: Message) -> tuple[Kind, Packed | None]:
        try:
            return self._done(link, message)
        except Unpackable as error:
            fault = PluginFault(f"model {self._model!r} failed: output {error}", model=self._model)
            log.error("%s", fault, extra={"model": self._model, "fault": fault.id})
            return Kind.FAILED, pack(failure(fault))
        except MercatoError as error:
            return Kind.FAILED, pack(failure(error))
        except BaseException as error:  # a memory that is full, say: the front must hear of it
            fault = PluginFault(f"model {self._model!r} failed", model=self._model)
            log.error("model %s failed", self._model, exc_info=error, extra={"model": self._model, "fault": fault.id})
            return Kind.FAILED, pack(failure(fault))

    def _done(self, link: Link, message: Message) -> tuple[Kind, Packed | None]:
        match message.kind:
            case Kind.RUN:
                result = self._run(link, message)
                return (Kind.NOT_RUN, None) if result is None else (Kind.DONE, pack_result(result))
            case Kind.LOAD:
                self._load()
                return Kind.DONE, None
            case Kind.WARM:
                worker = self._loaded()
                worker.warm()
                return Kind.DONE, pack({"providers": worker.providers, "nbytes": worker.nbytes})
            case kind:
                raise ValueError(f"a message of kind {kind} is none for a version")

    def _run(self, link: Link, message: Message) -> BatchResult | None:
        """None for a batch that nobody waits for any more."""
        batch = unpack_batch(message.view, message.head)
        is_late = batch.deadline is not None and time.monotonic() >= batch.deadline
        if is_late or link.is_cancelled(message.slot):
            return None
        return self._loaded().run(batch)

    def _loaded(self) -> Worker:
        assert self._worker is not None, "a version is loaded first"
        return self._worker

    def _load(self) -> None:
        """The first front that asks loads it for all."""
        if self._worker is None:
            worker = self._make()
            worker.load()
            self._worker = worker

    def _close(self) -> None:
        """The last front to go takes the model along."""
        self._fronts -= 1
        if self._fronts == 0 and self._worker is not None:
            self._worker.close()
            self._worker = None


def failure(error: MercatoError) -> Mapping[str, Any]:
    """What the front needs to raise the error again."""
    facts: dict[str, Any] = {"reason": error.reason, "message": str(error)}
    if isinstance(error, InvalidRequest):
        facts["violations"] = [[violation.field, violation.description] for violation in error.violations]
    if isinstance(error, PluginFault):
        facts["id"] = error.id
    return facts
