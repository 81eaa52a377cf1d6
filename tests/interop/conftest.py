"""The server whose models wait when told and answer with megabytes, and the clients that run the cases."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from tests.interop.languages import CLIENTS, Client
from tests.interop.plugin import DISTRIBUTION, SOURCE
from tests.interop.stubs import gated
from tests.server.calls import Wire
from tests.server.gate import GATE, Gate, install
from tests.server.running import PATIENCE, Running, environment


@dataclass(frozen=True)
class Waiting:
    """A server of test.gate and test.wide, and the gate."""

    running: Running
    gate: Gate

    @property
    def address(self) -> str:
        return self.running.address

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """test.gate runs another caller's request meanwhile: what comes for it waits, and never reaches the gate."""
        with grpc.insecure_channel(self.address) as channel:
            first = Wire(channel).prediction.Predict.future(gated(-1, "first"), timeout=PATIENCE)
            self.gate.reached("run")
            try:
                yield
            finally:
                self.gate.open("run")
                first.result()
                for _ in range(2):  # or the server believes that the model is slow, and refuses short deadlines
                    Wire(channel).prediction.Predict(gated(1, "awake"), timeout=PATIENCE)


@contextmanager
def started(store: Path, folder: Path) -> Iterator[Waiting]:
    """A server of the two models until the end of the block."""
    folder.mkdir()
    gate = Gate(folder / "gate")
    site = install(folder / "site", "mercato-gate", GATE)
    install(folder / "site", DISTRIBUTION, SOURCE)
    facts = environment(folder / "home", ("mercato-gate", DISTRIBUTION), PYTHONPATH=site, GATE=str(gate.folder))
    running = Running(store, folder / "work", facts)
    try:
        running.ready()
        yield Waiting(running, gate)
    finally:
        running.kill()
        gate.close()


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the two models, filled by the first server that starts."""
    return tmp_path_factory.mktemp("interop") / "store"


@pytest.fixture(scope="session")
def waiting(filled: Path) -> Iterator[Waiting]:
    with started(filled, filled.with_name("waiting")) as server:
        yield server
        server.running.terminate()
        assert server.running.ended() == 0


@pytest.fixture
def own(filled: Path, tmp_path: Path) -> Iterator[Waiting]:
    """A server that the test may stop."""
    with started(filled, tmp_path / "own") as server:
        yield server


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Client:
    return CLIENTS[request.param]
