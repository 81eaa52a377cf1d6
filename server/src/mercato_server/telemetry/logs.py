"""Logging: structlog over the standard library, one line per event on standard error."""

import logging
import sys
from typing import Any

import structlog


def configure(level: str = "INFO") -> None:
    """Console lines for a terminal, JSON otherwise; control characters are escaped by both renderers."""
    is_terminal = sys.stderr.isatty()
    renderer: Any = structlog.dev.ConsoleRenderer() if is_terminal else structlog.processors.JSONRenderer()
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if not is_terminal:
        final.append(structlog.processors.format_exc_info)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*final, renderer]))
    root = logging.getLogger("mercato")
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False
