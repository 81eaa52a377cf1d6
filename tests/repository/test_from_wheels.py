"""Shows that an installation from the wheels alone, outside the clone, exports, serves and answers."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.repository.outside import install

SETTLED_WITHIN = 120.0


@contextmanager
def serving(commands: Path, home: Path) -> Iterator[dict[str, Any]]:
    """Serve with an environment's own command; yield its events by name once every model is settled."""
    serve = [str(commands / "mercato"), "serve", "--listen", "127.0.0.1:0", "--store", str(home / "store"), "--json"]
    serve += ["--metrics-listen", "127.0.0.1:0"]
    environment = {"HOME": str(home), "PATH": str(commands)}
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True, cwd=home, env=environment) as server:
        watchdog = threading.Timer(SETTLED_WITHIN, server.kill)
        watchdog.start()
        try:
            yield events(server)
        finally:
            watchdog.cancel()
            server.terminate()
    assert server.returncode == 0


def events(server: subprocess.Popen[str]) -> dict[str, Any]:
    """Read a server's events by name, up to the one that says it is ready."""
    found: dict[str, Any] = {}
    assert server.stdout
    for line in server.stdout:
        event = json.loads(line)
        found[event["event"]] = event
        if "ready" in found:
            break
    return found


def predict(commands: Path, home: Path, port: int) -> str:
    """Call `pricing.linear` with an environment's own command and return what it prints."""
    call = ["predict", "pricing.linear", "--input", '{"x": [[4.0]]}', "--server", f"127.0.0.1:{port}", "--json"]
    run = subprocess.run([commands / "mercato", *call], capture_output=True, text=True, cwd=home)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_wheels_export_with_build_tools_and_serve_without(wheels: Path, tmp_path: Path) -> None:
    builder = install(tmp_path / "builder", wheels, "mercato-server[export]", "mercato-pricing[build]")
    with serving(builder, tmp_path) as exported:
        assert [model["state"] for model in exported["ready"]["models"]] == ["AVAILABLE"]
    bare = install(tmp_path / "bare", wheels, "mercato-server", "mercato-pricing")
    with serving(bare, tmp_path) as served:
        assert served["ready"]["models"] == exported["ready"]["models"]
        answer = json.loads(predict(bare, tmp_path, served["listening"]["port"]))
    assert abs(answer["outputs"]["y"][0][0] - 8.0) < 0.01
