"""The cases that `mercato_client` has words for: its exceptions and arrays tell what the stubs tell."""

from collections.abc import Iterator

import numpy as np
import pytest
from tests.interop.conftest import Waiting
from tests.interop.plugin import SPECIAL
from tests.server.running import Running

from mercato_client import Client, DeadlineExceeded, InvalidInput, NotFound


@pytest.fixture
def facade(server: Running) -> Iterator[Client]:
    with Client(server.address, timeout=60) as client:
        yield client


@pytest.fixture
def facade_of_waiting(waiting: Waiting) -> Iterator[Client]:
    with Client(waiting.address, timeout=60) as client:
        yield client


def test_large_unary(facade: Client) -> None:
    assert facade.predict("semantic.encoder", {"text": ["x" * 8192] * 64})["embedding"].shape == (64, 384)


def test_large_answer(facade_of_waiting: Client) -> None:
    x = np.arange(32 * 32_768, dtype=np.float32).reshape(32, -1)
    assert np.array_equal(facade_of_waiting.predict("test.wide", {"x": x})["y"], x)


def test_status_code_and_message(facade: Client) -> None:
    with pytest.raises(NotFound, match="there is no model 'no.model'; there are pricing.linear, semantic.encoder"):
        facade.predict("no.model", {"x": [[4.0]]})


def test_special_status_message(facade_of_waiting: Client) -> None:
    with pytest.raises(InvalidInput) as caught:
        facade_of_waiting.predict("test.wide", {"x": np.full((1, 1), -1, np.float32)})
    assert caught.value.message == f"model 'test.wide': inputs.x: {SPECIAL}"
    assert caught.value.field == "inputs.x"


def test_timeout_on_sleeping_server(waiting: Waiting, facade_of_waiting: Client) -> None:
    facade_of_waiting.signature("test.gate")
    with pytest.raises(DeadlineExceeded):
        facade_of_waiting.predict("test.gate", {"x": np.full((1, 1), -1, np.float32)}, timeout=1.0)
    waiting.free()


def test_rpc_soak(facade: Client) -> None:
    x = np.array([[4.0]], np.float32)
    assert {round(float(facade.predict("pricing.linear", {"x": x})["y"][0, 0]), 1) for _ in range(300)} == {8.0}
