"""A catalogue that changes: the next version is loaded beside the one that serves, and no call fails meanwhile."""

import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tests.plugins.search.conftest import MODEL, run
from tests.server.running import Running, environment

from mercato.v1 import admin_pb2, admin_pb2_grpc
from mercato_client import Client
from mercato_shop import write_shop


def test_products_come_and_go_without_a_call_that_fails(tmp_path: Path) -> None:
    import grpc

    shop, models = tmp_path / "shop", tmp_path / "models"
    write_shop(shop, products=30, users=20)
    (shop / "queries.parquet").unlink()
    run(shop, models, text="terms", width="16")
    socket = tmp_path / "a"
    env = environment(
        tmp_path / "home", ("mercato-search",), MERCATO_MODELS_DIR=str(models), MERCATO_ADMIN_LISTEN=f"unix:{socket}"
    )
    running = Running(tmp_path / "store", tmp_path / "work", env)
    try:
        running.ready()
        gone, new = change(shop / "products.parquet")
        with Client(running.address) as client, grpc.insecure_channel(f"unix:{socket}") as channel:
            assert top(client, gone) == ("p000000", 1)
            calling = Calling(client, gone)
            run(shop, models, text="terms", width="16")
            steps = admin_pb2_grpc.AdminServiceStub(channel).Load(admin_pb2.LoadRequest(model=MODEL), timeout=120)
            assert [step.version for step in steps][-1] in (1, 2)
            calling.end()
            assert calling.failures == [] and {1, 2} >= calling.versions >= {1}
            assert top(client, new) == ("new", 2) and top(client, gone)[0] != "p000000"
        running.terminate()
        assert running.ended() == 0
    finally:
        running.kill()


class Calling:
    """One caller after another, from construction to `end`."""

    def __init__(self, client: Client, text: str) -> None:
        self.failures: list[BaseException] = []
        self.versions: set[int] = set()
        self._client, self._text, self._ends = client, text, threading.Event()
        self._thread = threading.Thread(target=self._call)
        self._thread.start()

    def end(self) -> None:
        """After the call that is under way."""
        self._ends.set()
        self._thread.join()

    def _call(self) -> None:
        while not self._ends.is_set():
            try:
                self.versions.add(top(self._client, self._text)[1])
            except Exception as error:  # whatever it is, it is a call that failed
                self.failures.append(error)


def top(client: Client, text: str) -> tuple[str, int]:
    """The best product, and the version that found it."""
    answer = client.predict(MODEL, {"text": [text]}, parameters={"k": 1})
    return str(answer["product_id"][0, 0]), answer.model.version


def change(path: Path) -> tuple[str, str]:
    """One product fewer and one more; their names."""
    rows = pq.read_table(path).to_pylist()
    gone, new = rows[0]["name"], "Velvet moonlight piano stool"
    rows[0] = {**rows[0], "product_id": "new", "name": new, "description": new}
    pq.write_table(pa.Table.from_pylist(rows), path)
    return gone, new
