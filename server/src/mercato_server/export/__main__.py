"""The export process: one request in on stdin, events out as JSON lines, torch and its memory gone at the end.

Started by `mercato_server.export.launch`. It ends when its stdin is closed, so it never outlives the server.
"""

import contextlib
import json
import os
import resource
import sys
import threading
import traceback
from typing import Any, BinaryIO

from mercato_server.contract.summary import summary
from mercato_server.errors import MercatoError
from mercato_server.export.request import MAX_MESSAGE, ExportRequest, Progress

_POLITENESS = 19


def main() -> int:
    """Serve one request; 0 when it was exported."""
    os.nice(_POLITENESS)
    # A crash in native code is a reason for the operator; nobody wants gigabytes of weights dumped beside it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, events = _private(0, "rb"), _private(1, "wb")
    # What plugins and tools print or read must touch neither the events nor the request.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    request = ExportRequest.from_json(requests.readline())
    threading.Thread(target=_end_with_parent, args=(requests,), daemon=True).start()
    outcome = _outcome(request, events)
    _send(events, outcome)
    return 0 if outcome["event"] == "done" else 1


def _outcome(request: ExportRequest, events: BinaryIO) -> dict[str, Any]:
    def report(progress: Progress) -> None:
        _send(events, {"event": "progress", **vars(progress)})

    try:
        # Here, so that a tool that is missing or broken is told as a reason too.
        from mercato_server.export import job

        return {"event": "done", "digest": job.run(request, report).digest}
    except MercatoError as error:
        traceback.print_exc()
        return {"event": "failed", "code": error.reason, "message": str(error)}
    except ImportError as error:
        traceback.print_exc()
        hint = "install mercato-server[export] to export models here"
        return {"event": "failed", "code": "EXPORT_FAILED", "message": f"{request.model}: {summary(error)}; {hint}"}
    except BaseException as error:  # an exit that the plugin raises outside its own methods is told too
        traceback.print_exc()
        return {"event": "failed", "code": "EXPORT_FAILED", "message": f"model {request.model!r}: {summary(error)}"}


def _private(descriptor: int, mode: str) -> Any:
    return os.fdopen(os.dup(descriptor), mode)


def _send(events: BinaryIO, event: dict[str, Any]) -> None:
    if "message" in event:
        event["message"] = event["message"][:MAX_MESSAGE]
    events.write(json.dumps(event).encode() + b"\n")
    events.flush()


def _end_with_parent(requests: BinaryIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        requests.read()
    os._exit(1)


if __name__ == "__main__":
    # Without the interpreter's own clean-up: tools leave threads behind that may hang it.
    code = main()
    sys.stderr.flush()
    os._exit(code)
