"""What plugins do while the server starts, in real processes: imports that hang, imports of build tools."""

import os
import select
from pathlib import Path

from tests.server.conftest import Start
from tests.server.gate import GATE, install
from tests.server.running import PATIENCE

HANGING = """
import os

told = os.open(os.environ["TOLD"], os.O_WRONLY)
os.write(told, b"x")
os.read(os.open(os.environ["NEVER"], os.O_RDONLY), 1)
"""


def test_sigterm_does_not_wait_for_an_import(start: Start, tmp_path: Path) -> None:
    path = install(tmp_path / "site", "mercato-hanging", HANGING)
    told, never = tmp_path / "told", tmp_path / "never"
    os.mkfifo(told)
    os.mkfifo(never)
    hearing, holding = os.open(told, os.O_RDWR), os.open(never, os.O_RDWR)
    try:
        running = start(
            tmp_path / "store", plugins=("mercato-hanging",), PYTHONPATH=path, TOLD=str(told), NEVER=str(never)
        ).listening()
        assert select.select([hearing], [], [], PATIENCE)[0]
        running.terminate()
        assert running.process.wait(20) == 0
        assert "Traceback" not in running.log
    finally:
        os.close(hearing)
        os.close(holding)


def test_no_build_tool_enters_after_discovery(start: Start, tmp_path: Path) -> None:
    """It may be imported by `load` where the model is exported; in the server it fails that model."""
    source = GATE.replace("def load(self, ctx):", "def load(self, ctx):\n        import onnx\n")
    path = install(tmp_path / "site", "mercato-gate", source)
    running = start(tmp_path / "store", plugins=("mercato-gate",), PYTHONPATH=path, GATE=str(tmp_path))
    [item] = running.ready()["models"]

    assert item["state"] == "FAILED"
    assert "LOAD_FAILED: " in item["reason"] and "onnx must not enter a serving process" in item["reason"]
    assert "/onnx/" not in running.maps()
    running.terminate()
    assert running.ended() == 0


def test_a_port_beyond_the_machine_is_refused_in_plain_text(start: Start, tmp_path: Path) -> None:
    """The address belongs to no machine, so that nothing is opened."""
    refused = start(tmp_path / "store", plugins=(), listen="192.0.2.1:0")

    assert refused.ended() == 1
    assert "listen 192.0.2.1:0 opens a port to the network in plain text" in refused.log
