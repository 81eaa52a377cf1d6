"""A plugin that hangs while the server starts: the others serve meanwhile."""

from pathlib import Path

import grpc
from tests.server.calls import Wire
from tests.server.faults.callers import Caller, History
from tests.server.faults.site import NEIGHBOUR, VICTIM, Site, model
from tests.server.gate import Gate
from tests.server.running import Running


def test_the_others_serve_while_one_is_still_imported(site: Site, tmp_path: Path) -> None:
    gate = Gate(site.orders / "gate")
    site.order(f"{VICTIM}.import", "stop('load')")
    running = Running(site.store, tmp_path / "work", site.environment())
    try:
        running.listening()
        gate.reached("load")
        with grpc.insecure_channel(running.address) as channel:
            wire, history = Wire(channel), History()
            assert Caller(channel, model(NEIGHBOUR), history).until_answered().is_ok
            assert wire.serving(model(NEIGHBOUR)) and not wire.serving()
            assert running.is_silent, "not ready yet"
            gate.open("load")
            states = {item["model"]: item["state"] for item in running.ready()["models"]}
            assert states == {model(VICTIM): "AVAILABLE", model(NEIGHBOUR): "AVAILABLE"}
            assert wire.serving()
            assert Caller(channel, model(VICTIM), history).call().is_ok
    finally:
        running.kill()
        gate.close()
