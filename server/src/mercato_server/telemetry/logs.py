"""Logging: structlog over the standard library, one event per line on standard error.

What callers and plugins wrote is part of some events. It cannot begin a line of its own, nor move the cursor or the
direction of writing: JSON has its own escapes, and the console gets every text with such characters escaped.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog

Format = Literal["auto", "console", "json"]
Event = MutableMapping[str, Any]

# Facts that a line may have beside its text.
FIELDS = ("request_id", "method", "model", "version", "plugin", "status", "ms", "fault", "output")

# Begins each line below the first one of an event, so that none can be taken for an event.
_BELOW = "  | "


def configure(level: str = "INFO", form: Format = "auto") -> None:
    """Log to standard error, from `level` on; other libraries' lines from WARNING on.

    `auto` is the console's form on a terminal, else JSON.
    """
    root = logging.getLogger()
    root.handlers[:] = [handler(sys.stderr, form)]
    root.setLevel(logging.WARNING)
    logging.getLogger("mercato").setLevel(level)


def handler(stream: TextIO, form: Format) -> logging.Handler:
    """Renders records to `stream`."""
    is_terminal = stream.isatty()
    is_console = is_terminal if form == "auto" else form == "console"
    made = logging.StreamHandler(stream)
    made.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.stdlib.ExtraAdder(FIELDS),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                *(_console(is_terminal) if is_console else [structlog.processors.JSONRenderer()]),
            ],
        )
    )
    return made


def _console(colors: bool) -> list[Any]:
    # Its default shows each frame's variables, and with them payloads.
    plain = structlog.dev.plain_traceback
    return [_escape, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]


def _escape(logger: object, name: str, event: Event) -> Event:
    """Make every text fit to be shown; the blocks below an event keep their lines."""
    blocks = [event.pop(key, "") for key in ("output", "exception")]
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = printable(value)
    if shown := "\n".join(filter(None, blocks)):
        event["exception"] = "\n".join(_BELOW + printable(line) for line in shown.split("\n"))
    return event


def printable(text: str) -> str:
    """The text with control characters, line ends and what changes the direction of writing escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
