"""`make bench-search`: search.products with its index beside comparing every vector, top 10 of a large catalogue."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import uvloop
from bench import frame, servers
from bench.frame import Case, Figure
from bench.isolation import Lane, Side
from bench.load import PREDICT, connection

from mercato.v1 import prediction_pb2, tensor_pb2
from mercato_shop.catalogue import draw_catalogue, product_table
from mercato_shop.plan import Plan
from mercato_shop.queries import draw_queries
from mercato_training import Group, Job, Quiet, train

MODEL = "search.products"
INDEX, BRUTE = 1, 2
"""Versions."""

FIRST = 10

FIGURES: dict[str, Figure[tuple[Lane, float]]] = {
    "index_median": Figure("index, median ms", 2, lambda index, _: index[0].median / 1e3),
    "brute_median": Figure("every vector, median ms", 2, lambda _, brute: brute[0].median / 1e3),
    "index_p99": Figure("index, p99 ms", 1, lambda index, _: index[0].p99 / 1e3),
    "brute_p99": Figure("every vector, p99 ms", 1, lambda _, brute: brute[0].p99 / 1e3),
    "index_rate": Figure("index, calls/s", 0, lambda index, _: index[0].rate),
    "brute_rate": Figure("every vector, calls/s", 0, lambda _, brute: brute[0].rate),
    "rate_ratio": Figure("ratio of calls/s", 2, lambda index, brute: index[0].rate / brute[0].rate),
    "recall": Figure("products of the index among the best 10", 4, lambda index, _: index[1]),
}


def main() -> None:
    """Measure and print."""
    asked = frame.arguments(
        __doc__, rounds=5, of="the two versions", calls=(960, "calls per round"), products=(100_000, "of the catalogue")
    )
    with tempfile.TemporaryDirectory(prefix="mercato-bench-") as place:
        texts = make(Path(place), asked.products)
        cases = uvloop.run(measure(Path(place), texts, asked.rounds, asked.calls))
    frame.show("search", __doc__, cases, FIGURES, as_json=asked.json)


def make(folder: Path, products: int) -> list[str]:
    """Train one catalogue with inverted lists, then with every vector compared; the shop's queries in words."""
    plan = Plan(products=products)
    catalogue = draw_catalogue(plan)
    table = product_table(plan, catalogue).drop_columns(["image"])
    pq.write_table(table, folder / "products.parquet")
    for flat in (0, products):
        job = Job(MODEL, folder / "products.parquet", folder / "models", {"text": "terms", "flat": str(flat)})
        train(job, Group(), Quiet())
    return [text for text in draw_queries(plan, catalogue).table["text"].to_pylist() if text]


async def measure(folder: Path, texts: Sequence[str], rounds: int, calls: int) -> list[Case]:
    """One server of both versions, loaded in turn with the same queries in the same order."""
    env = {
        "MERCATO_MODELS_DIR": str(folder / "models"),
        "MERCATO_MODELS": json.dumps({MODEL: {"versions": [INDEX, BRUTE]}}),
        "MERCATO_PLUGINS_ALLOW": "mercato-search",
    }
    with servers.mercato(folder / "store", env=env) as server:
        server.event("ready")
        async with connection(server.address, PREDICT) as call:
            side = Side(server, call)
            return [await _alternate(side, texts, rounds, calls, in_flight) for in_flight in (1, 16)]


async def _alternate(side: Side, texts: Sequence[str], rounds: int, calls: int, in_flight: int) -> Case:
    name, pairs = f"{in_flight} in flight", []
    for _ in frame.turns(name, rounds):
        (fast, found), (brute, best) = [
            await side.round([_request(text, version) for text in texts], calls, in_flight)
            for version in (INDEX, BRUTE)
        ]
        pairs.append(((fast, recall(found, best)), (brute, 1.0)))
    return frame.case(name, pairs, FIGURES)


def recall(found: Sequence[bytes], best: Sequence[bytes]) -> float:
    """Of the products found the share that scores as much as the last of the best does."""
    scores, least = (np.stack([_scores(answer) for answer in answers]) for answers in (found, best))
    return float((scores >= least[:, -1:] - 1e-6).mean())


def _scores(answer: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    outputs = prediction_pb2.PredictResponse.FromString(answer).outputs
    data = next(output.tensor.data for output in outputs if output.name == "score")
    scores = np.frombuffer(data, np.float32)
    if len(scores) != FIRST:
        raise RuntimeError(f"an answer has {len(scores)} products, expected {FIRST}")
    return scores


def _request(text: str, version: int) -> bytes:
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_STRING, shape=[1], items=[text.encode()])
    return prediction_pb2.PredictRequest(
        model=prediction_pb2.ModelRef(name=MODEL, version=version),
        inputs=[tensor_pb2.NamedTensor(name="text", tensor=tensor)],
    ).SerializeToString()


if __name__ == "__main__":
    main()
