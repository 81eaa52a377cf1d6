"""Good and bad plugins side by side in one real server: the bad ones are named, the good one answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests.server.calls import Wire, failed, request, tensor
from tests.server.plugins.installed import install, plugin
from tests.server.running import Running, environment

from mercato.v1 import catalog_pb2

BUILD = """
    def build(self, ctx):
        import torch

        class Net(torch.nn.Module):
            def forward(self, x):
                return ANSWER

        return Net()

    def examples(self, ctx):
        return [Example({"x": [[1.0, 2.0]]})]
"""
MOODY = """
    def postprocess(self, outputs, batch):
        if (batch.inputs["x"] == 13).any():
            return {"y": outputs["y"][:-1]}
        return None if (batch.inputs["x"] == 14).any() else outputs
"""
DOUBLE = BUILD.replace("ANSWER", "x + x")
PLUGINS = {
    "mercato-good": plugin("good", DOUBLE),
    "mercato-failing": "import no_such_module",
    "mercato-torn": "def broken(:",
    "mercato-differing": plugin("differing", BUILD.replace("ANSWER", "x + x if x.shape[0] == 1 else x + x + 1")),
    "mercato-moody": plugin("moody", DOUBLE + MOODY),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("bad")
    (site := folder / "site").mkdir()
    for name, code in PLUGINS.items():
        install(site, name, code)
    env = environment(folder / "home", tuple(PLUGINS), PYTHONPATH=str(site))
    running = Running(folder / "store", folder / "work", env)
    try:
        running.ready()
        yield running
        running.terminate()
        assert running.ended() == 0
    finally:
        running.kill()


@pytest.fixture(scope="module")
def wire(server: Running) -> Iterator[Wire]:
    with grpc.insecure_channel(server.address) as channel:
        yield Wire(channel)


def answer(wire: Wire, model: str, *values: float) -> list[float]:
    x = np.repeat(np.array(values, np.float32)[:, None], 2, 1)
    named = tensor("x", shape=x.shape, data=x.tobytes())
    response = wire.prediction.Predict(request(model, named), timeout=20)
    y: Any = np.frombuffer(response.outputs[0].tensor.data, np.float32).reshape(x.shape)
    found: list[float] = y[:, 0].tolist()
    return found


def test_the_good_one_answers_and_the_server_serves(wire: Wire) -> None:
    assert answer(wire, "shop.good", 1, 2) == [2, 4]
    assert wire.serving() and wire.serving("shop.good")


def test_the_bad_ones_are_listed_with_their_reasons(wire: Wire, server: Running) -> None:
    listed = wire.catalog.ListModels(catalog_pb2.ListModelsRequest(), timeout=20)

    refused = {entry.plugin.distribution: entry for entry in listed.refused_plugins}
    assert refused["mercato-failing"].code == refused["mercato-torn"].code == "IMPORT_FAILED"
    assert "No module named 'no_such_module'" in refused["mercato-failing"].reason
    assert "SyntaxError" in refused["mercato-torn"].reason
    assert str(server.home.parent) not in str(listed)
    assert "Traceback" not in str(listed)


def test_a_graph_that_differs_is_failed_with_the_numbers_and_never_served(wire: Wire) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        answer(wire, "shop.differing", 1)
    status = failed(caught.value)

    assert (status.code, status.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_FAILED")
    assert "PARITY_FAILED" in status.text and "tolerance 1e-05" in status.text and "'y'" in status.text
    assert not wire.serving("shop.differing")


@pytest.mark.parametrize(
    ("unlucky", "detail"),
    [
        (13, "output 'y' has 1 rows, the batch has 2"),
        (14, "the plugin returned NoneType, expected a mapping of outputs"),
    ],
)
def test_a_wrong_answer_is_internal_with_an_id_and_the_next_one_is_fine(
    wire: Wire, server: Running, unlucky: float, detail: str
) -> None:
    for _ in range(2):
        assert answer(wire, "shop.moody", 1, 2) == [2, 4]
        with pytest.raises(grpc.RpcError) as caught:
            answer(wire, "shop.moody", 1, unlucky)
        status = failed(caught.value)
        assert status.code is grpc.StatusCode.INTERNAL
        assert detail in status.text
        id = status.text.rpartition("(id ")[2].rstrip(")")
        assert len(id) == 12 and id in server.log

    assert answer(wire, "shop.moody", 3) == [6]
    assert answer(wire, "shop.good", 5) == [10]


def test_with_strict_the_same_plugins_are_a_refusal(server: Running, tmp_path: Path) -> None:
    env = environment(
        tmp_path / "home", ("mercato-good", "mercato-failing"), PYTHONPATH=str(server.home.parent / "site")
    )
    strict = Running(server.home.parent / "store", tmp_path / "work", env, "--strict")

    assert strict.ended() == 1
    assert "refusing to serve (strict)" in strict.log and "no_such_module" in strict.log
