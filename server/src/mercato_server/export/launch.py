"""The export process seen from outside: start it, follow its events, stop it. Imports no build tool."""

import asyncio
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import Any

from mercato_server.errors import ExportFailed, MercatoError, ParityFailed
from mercato_server.export.request import ExportRequest, Progress

log = logging.getLogger("mercato.export")

_ERRORS: dict[str, type[MercatoError]] = {kind.reason: kind for kind in (ExportFailed, ParityFailed)}
_MAX_LINE = 1 << 20


async def export_model(request: ExportRequest, on_progress: Callable[[Progress], None]) -> str:
    """Export one model in a process of its own and return the artifact's digest.

    Raises ExportFailed or ParityFailed with the reason. When the caller is cancelled, or dies, the
    process ends too. Processes that share a store export one after the other.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "mercato_server.export",
        stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=_MAX_LINE,
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
    )  # fmt: skip
    noise = asyncio.create_task(_read_noise(process))
    try:
        outcome = await _follow(process, request, on_progress)
        await process.wait()
        return _digest(request.model, outcome, process.returncode, await noise)
    finally:
        await _end(process)
        await noise


async def _follow(process: Process, request: ExportRequest, on_progress: Callable[[Progress], None]) -> dict[str, Any]:
    """Send the request, pass progress on, and give the last event; empty when there was none."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(request.to_json())
    async for line in process.stdout:
        event = json.loads(line)
        if event.pop("event") != "progress":
            return dict(event)
        on_progress(Progress(**event))
    return {}


async def _read_noise(process: Process) -> str:
    """Whatever the plugin and the tools print, kept out of the terminal."""
    assert process.stderr is not None
    return (await process.stderr.read()).decode(errors="replace")


def _digest(model: str, outcome: dict[str, Any], code: int | None, noise: str) -> str:
    if "digest" in outcome:
        log.debug("export of %s printed: %s", model, noise)
        return str(outcome["digest"])
    log.error("export of %s failed and printed: %s", model, noise)
    if "code" in outcome:
        raise _ERRORS.get(outcome["code"], ExportFailed)(outcome["message"])
    raise ExportFailed(f"export of model {model!r}: the export process {_cause(code)}; its output is in the log")


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by signal {signal.Signals(-code).name}"
    return f"ended with exit code {code} and without a result"


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()
