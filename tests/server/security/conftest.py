"""One server that asks callers for certificates and has an access table, and connections to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.running import PLUGINS, Running, environment
from tests.server.security.secured import Files, Secured

ORDERS = "spiffe://shop/orders"
ADMIN = "admin.shop"
BLIND = "blind.shop"
TABLE = """
[[access]]
principal = "spiffe://shop/orders"
methods = [
  "mercato.v1.PredictionService/Predict",
  "mercato.v1.PredictionService/PredictStream",
  "mercato.v1.CatalogService/ListModels",
  "mercato.v1.CatalogService/GetModel",
]
models = ["pricing.linear"]

[[access]]
principal = "admin.shop"
methods = "*"
models = "*"

[[access]]
principal = "blind.shop"
methods = ["mercato.v1.PredictionService/Predict", "mercato.v1.CatalogService/ListModels"]
models = []
"""


@pytest.fixture(scope="package")
def secured(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """The server; it must end with exit code 0 and have logged no traceback."""
    folder = tmp_path_factory.mktemp("secured")
    (folder / "table.toml").write_text(TABLE)
    files = Files(folder / "tls")
    env = environment(folder / "home", PLUGINS, MERCATO_CONFIG=str(folder / "table.toml"))
    running = Running(store, folder / "work", env, *files.flags)
    try:
        secured = Secured(running, files)
        running.event("ready")
        yield secured
        running.terminate()
        assert running.ended() == 0
    finally:
        running.kill()
    assert "Traceback" not in running.log
    assert "ssl_transport_security" not in running.log
