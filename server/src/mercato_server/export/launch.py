"""The export process seen from outside: start it, follow its events, stop it. Imports no build tool."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from typing import Any

from mercato_server.errors import ExportFailed, MercatoError, ParityFailed
from mercato_server.export.request import ExportRequest, Progress

log = logging.getLogger("mercato.export")

_ERRORS: dict[str, type[MercatoError]] = {kind.reason: kind for kind in (ExportFailed, ParityFailed)}

MAX_LINE = 1 << 20
"""Bytes of one event."""

MAX_NOISE = 1 << 16
"""Bytes kept of what the process prints, the last ones."""

EXIT_SECONDS = 10.0
"""Longest wait for the end of a process that has told its result, and of one that was killed."""

RUN_SECONDS = 900.0
"""Longest silence while graphs run; building may take as long as it takes."""


async def export_model(request: ExportRequest, on_progress: Callable[[Progress], None]) -> str:
    """Export one model in a process of its own and return the artifact's digest.

    Raises ExportFailed or ParityFailed with the reason. When the caller is cancelled, or dies, the
    process ends too, with whatever it has started. Processes that share a store export one after the other.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "mercato_server.export",
        stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=MAX_LINE, start_new_session=True,
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
    )  # fmt: skip
    noise = bytearray()
    reading = asyncio.create_task(_read_noise(process, noise))
    try:
        outcome = await _follow(process, request, on_progress)
        await asyncio.wait([asyncio.ensure_future(process.wait())], timeout=EXIT_SECONDS)
    finally:
        await _end(process, reading)
    return _digest(request, outcome, process.returncode, noise.decode(errors="replace"))


async def _follow(process: Process, request: ExportRequest, on_progress: Callable[[Progress], None]) -> dict[str, Any]:
    """Send the request, pass progress on, and give the last event; empty when there was none."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(request.to_json())
    patience = None
    while line := await _within(patience, process.stdout.readline(), request.model):
        progress = _event(line, request.model)
        if not isinstance(progress, Progress):
            return progress
        patience = RUN_SECONDS if _graphs_run_next(progress) else None
        on_progress(progress)
    return {}


def _event(line: bytes, model: str) -> Progress | dict[str, Any]:
    """Progress, or what the last event says."""
    try:
        event = json.loads(line)
        return Progress(**event) if event.pop("event") == "progress" else dict(event)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _no_event(model) from error


def _no_event(model: str) -> ExportFailed:
    return ExportFailed(
        f"export of model {model!r}: the export process sent what is no event, or one of more than {MAX_LINE} bytes; "
        "the plugin must not write to files that it has not opened"
    )


def _graphs_run_next(progress: Progress) -> bool:
    return progress.step == "certify" or (progress.step == "export" and progress.done == progress.total)


async def _within(seconds: float | None, line: Awaitable[bytes], model: str) -> bytes:
    try:
        async with asyncio.timeout(seconds):
            return await line
    except ValueError as error:  # a line beyond the limit
        raise _no_event(model) from error
    except TimeoutError:
        raise ExportFailed(
            f"model {model!r}: certifying it stood still for {seconds:.0f} s; a graph, preprocess or postprocess "
            "of it does not end"
        ) from None


async def _read_noise(process: Process, noise: bytearray) -> None:
    """Keep the end of what the plugin and the tools print, out of the terminal."""
    assert process.stderr is not None
    while chunk := await process.stderr.read(MAX_NOISE):
        noise += chunk
        del noise[:-MAX_NOISE]


def _digest(request: ExportRequest, outcome: dict[str, Any], code: int | None, noise: str) -> str:
    facts = {"model": request.model, "plugin": request.plugin.distribution, "output": noise}
    if "digest" in outcome:
        log.debug("export of %s ended", request.model, extra=facts)
        return str(outcome["digest"])
    log.error("export of %s failed", request.model, extra=facts)
    if "code" in outcome:
        raise _ERRORS.get(outcome["code"], ExportFailed)(outcome["message"])
    raise ExportFailed(
        f"export of model {request.model!r}: the export process {_cause(code)}; its output is in the log"
    )


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by signal {signal.Signals(-code).name}"
    return f"ended with exit code {code} and without a result"


async def _end(process: Process, reading: asyncio.Task[None]) -> None:
    """Kill the process and what it has started; what has left its group is not waited for."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await asyncio.wait([reading, asyncio.ensure_future(process.wait())], timeout=EXIT_SECONDS)
    reading.cancel()
