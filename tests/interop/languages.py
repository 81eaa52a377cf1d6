"""The clients that run the cases: the stubs in this process, Node in one of its own."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google.rpc.status_pb2
import pytest
from tests.interop import stubs
from tests.server.running import PATIENCE

NODE = Path(__file__).with_name("node")
# Where `google/rpc/*.proto` lie.
GOOGLEAPIS = Path(google.rpc.status_pb2.__file__).parents[2]

Client = Callable[[str, str], dict[str, Any]]


def node(case: str, address: str) -> dict[str, Any]:
    """The facts of one case as the Node client gives them."""
    printed = script(NODE / "client.mjs", address, case)
    facts: dict[str, Any] = json.loads(printed)
    return facts


def script(path: Path, *arguments: str, **environment: str) -> str:
    """What a Node program prints; skips the test where Node or its packages are missing, and fails where CI is set."""
    if missing := _missing():
        (pytest.fail if "CI" in os.environ else pytest.skip)(missing)
    run = subprocess.run(
        ["node", path, *arguments],
        capture_output=True, text=True, timeout=PATIENCE, cwd=NODE.parents[2],
        env={"PATH": os.environ["PATH"], "GOOGLEAPIS": str(GOOGLEAPIS), **environment},
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def _missing() -> str:
    if not shutil.which("node"):
        return "node is not installed"
    return "" if (NODE / "node_modules/.ready").exists() else "the Node client has no packages; run `make test`"


CLIENTS: dict[str, Client] = {"stubs": stubs.run, "node": node}
