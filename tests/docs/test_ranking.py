"""Shows that the page's ranking plugin is certified, and ranks candidates of many callers, more than a batch holds."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.server.running import Running

from mercato_client import Client

MODEL = "ranking.interest"


def drawn(rows: int, views: int, seed: int) -> dict[str, Any]:
    """A customer's context and candidates; prices are such that float32 has the scores exactly, with many ties."""
    random = np.random.default_rng(seed)
    return {
        "viewed": random.integers(0, 9, views),
        "budget": np.float32(0),
        "category": random.integers(0, 9, rows),
        "price": (random.integers(0, 3, rows) * 100).astype(np.float32),
    }


def expected(inputs: dict[str, Any], k: int) -> list[int]:
    """The places of the best, by the formula of the page."""
    seen = (inputs["viewed"] == inputs["category"][:, None]).sum(1)
    best: list[int] = np.argsort(inputs["price"] // 100 - seen, kind="stable")[:k].tolist()
    return best


def test_the_ranking_model_is_certified_with_its_padding(server: Running) -> None:
    with Client(server.address) as client:
        (version,) = client.model(MODEL).versions
    assert version.certificate is not None
    assert (version.certificate.kind, version.certificate.passed) == ("source", True)
    assert {"parity", "batch", "padding", "examples"} <= set(version.certificate.checks)
    assert (version.max_rows, version.batch_rows) == (1024, 64)


def test_more_candidates_than_a_batch_holds_are_ranked_together(server: Running) -> None:
    inputs = drawn(rows=1000, views=50, seed=1)
    with Client(server.address) as client:
        answer = client.predict(MODEL, inputs, parameters={"k": 20}, receipt=True)
    assert answer["candidate"].tolist() == expected(inputs, 20)
    assert answer["score"].shape == (20,)
    assert answer.receipt is not None
    assert answer.receipt.batches >= 16


def test_customers_of_every_length_are_ranked_side_by_side(server: Running) -> None:
    asked = [(drawn(rows=7, views=views, seed=views), 1 + views % 9) for views in (0, 1, 3, 200, 0, 17)]
    with Client(server.address) as client, client.stream() as stream:
        pending = [stream.predict(MODEL, inputs, parameters={"k": k}) for inputs, k in asked]
        found = [answer.result(timeout=30.0)["candidate"].tolist() for answer in pending]
    assert found == [expected(inputs, k) for inputs, k in asked]


def test_places_alone_may_be_asked_for(server: Running) -> None:
    inputs = drawn(rows=5, views=3, seed=2)
    with Client(server.address) as client:
        answer = client.predict(MODEL, inputs, outputs=["candidate"], parameters={"k": 3})
    assert {name: array.tolist() for name, array in answer.items()} == {"candidate": expected(inputs, 3)}
