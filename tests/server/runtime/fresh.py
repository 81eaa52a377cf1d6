"""Running a function of a test module in a process of its own: memory and threads of a process belong to one test."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

CALL = "import importlib, json, sys; f = getattr(importlib.import_module(sys.argv[1]), sys.argv[2]); "
PRINT = "print(json.dumps(f(*sys.argv[3:])))"


def fresh(function: Callable[..., Any], *arguments: object) -> Any:
    """What the function gives there, as JSON holds it; its arguments arrive as text."""
    command = [sys.executable, "-c", CALL + PRINT, function.__module__, function.__name__, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return json.loads(ended.stdout)
