"""The server whose models wait when told and answer with megabytes, and the clients that run the cases."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.interop.languages import CLIENTS, Client
from tests.interop.plugin import DISTRIBUTION, SOURCE
from tests.server.gate import GATE, Gate, install
from tests.server.running import Running, environment


@dataclass(frozen=True)
class Waiting:
    """A server of test.gate and test.wide, and the gate."""

    running: Running
    gate: Gate

    @property
    def address(self) -> str:
        return self.running.address

    def free(self) -> None:
        """Let the request that waits go on."""
        self.gate.reached("run")
        self.gate.open("run")


@pytest.fixture(scope="session")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waiting]:
    folder = tmp_path_factory.mktemp("interop")
    gate = Gate(folder / "gate")
    site = install(folder / "site", "mercato-gate", GATE)
    install(folder / "site", DISTRIBUTION, SOURCE)
    facts = environment(folder / "home", ("mercato-gate", DISTRIBUTION), PYTHONPATH=site, GATE=str(gate.folder))
    running = Running(folder / "store", folder / "work", facts)
    try:
        running.ready()
        yield Waiting(running, gate)
        running.terminate()
        assert running.ended() == 0
    finally:
        running.kill()
        gate.close()


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Client:
    return CLIENTS[request.param]
