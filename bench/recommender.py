"""`make bench-recommender`: top 10 of 100 000 items beside 2 000 and beside numpy in process, for both models."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import uvloop
from bench import frame, servers
from bench.frame import Case, Figure
from bench.load import PREDICT, Call, connection, drive
from safetensors.torch import save

from mercato.v1 import prediction_pb2, tensor_pb2
from mercato_plugin import Example, publish_folder, staged_folder, write_examples
from mercato_recommender.answering import KEPT
from mercato_recommender.building import ITEMS, TOWERS, two_towers
from mercato_recommender.catalogue import FILE, Catalogue
from mercato_recommender.histories import packed
from mercato_recommender.items_network import SCALE
from mercato_recommender.tower_network import UNITS

SIZES = (2_000, 100_000)
NEIGHBOURS, VECTOR, HISTORY, BEST = 100, 64, 30, 10
IN_FLIGHT = 16
MODELS = ("recommender.items", "recommender.two_tower")

Rows = npt.NDArray[np.int64]
Brute = Callable[[Rows], Rows]
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Side:
    """One size of the catalogue: milliseconds of one caller, rows per second of many, milliseconds of numpy."""

    lone_ms: float
    rate: float
    numpy_ms: float


FIGURES: dict[str, Figure[Side]] = {
    "small_ms": Figure("2 000 items, one caller, ms", 2, lambda small, _: small.lone_ms),
    "large_ms": Figure("100 000 items, one caller, ms", 2, lambda _, large: large.lone_ms),
    "ms_ratio": Figure("ratio", 2, lambda small, large: large.lone_ms / small.lone_ms),
    "small_rate": Figure("2 000 items, rows/s", 0, lambda small, _: small.rate),
    "large_rate": Figure("100 000 items, rows/s", 0, lambda _, large: large.rate),
    "rate_ratio": Figure("ratio", 2, lambda small, large: large.rate / small.rate),
    "numpy_ms": Figure("100 000 items, numpy in process, ms per row", 2, lambda _, large: large.numpy_ms),
    "numpy_ratio": Figure("rows/s beside numpy's", 2, lambda _, large: large.rate * large.numpy_ms / 1e3),
}


def main() -> None:
    """Measure and print."""
    asked = frame.arguments(__doc__, rounds=5, of="the two sizes", calls=(320, "rows per round"))
    cases = uvloop.run(measure(asked.store, asked.rounds, asked.calls))
    frame.show("recommender", __doc__, cases, FIGURES, as_json=asked.json)


async def measure(store: Path | None, rounds: int, calls: int) -> list[Case]:
    """One server of both models in both sizes, loaded in turn."""
    with tempfile.TemporaryDirectory(prefix="mercato-bench-") as place:
        models = Path(place) / "models"
        brute = {(model, size): _folder(models, model, size) for model in MODELS for size in SIZES}
        versions = ",".join(f'"{model}": {{"versions": [1, 2]}}' for model in MODELS)
        env = {
            "MERCATO_MODELS_DIR": str(models),
            "MERCATO_MODELS": f"{{{versions}}}",
            "MERCATO_PLUGINS_ALLOW": '["mercato-recommender"]',
        }
        with servers.mercato(store or Path(place) / "store", env=env) as server:
            server.event("ready")
            async with connection(server.address, PREDICT) as call:
                return [await _alternate(call, model, brute, rounds, calls) for model in MODELS]


async def _alternate(call: Call, model: str, brute: dict[tuple[str, int], Brute], rounds: int, calls: int) -> Case:
    pairs = []
    for _ in frame.turns(model, rounds):
        small, large = [
            await _round(call, model, version, brute[model, size], size, calls) for version, size in enumerate(SIZES, 1)
        ]
        pairs.append((small, large))
    return frame.case(model, pairs, FIGURES)


async def _round(call: Call, model: str, version: int, brute: Brute, size: int, calls: int) -> Side:
    histories = np.random.default_rng(5).integers(0, size, (64, HISTORY))
    requests = [_request(model, version, history) for history in histories]
    await drive(call, requests, calls=len(requests), in_flight=IN_FLIGHT)
    lone = await drive(call, requests, calls=calls // 4, in_flight=1)
    many = await drive(call, requests, calls=calls, in_flight=IN_FLIGHT)
    start = time.perf_counter()
    found = [brute(history) for history in histories]
    numpy_ms = (time.perf_counter() - start) / len(histories) * 1e3
    _check(many.answers, found)
    return Side(lone.seconds / (calls // 4) * 1e3, calls / many.seconds, numpy_ms)


def _check(answers: Sequence[bytes], found: Sequence[Rows]) -> None:
    """Raise RuntimeError unless the server answers as numpy does."""
    for number, answer in enumerate(answers):
        parsed = prediction_pb2.PredictResponse.FromString(answer)
        items = next(output.tensor.items for output in parsed.outputs if output.name == "item_id")
        if [int(item) for item in items] != found[number % len(found)].tolist():
            raise RuntimeError(f"call {number}: the server and numpy name other items")


def _request(model: str, version: int, history: Rows) -> bytes:
    """The latest item of `history` stands first; callers send it last."""
    ids = [str(number).encode() for number in history[::-1].tolist()]
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_STRING, shape=[1, len(ids)], items=ids)
    return prediction_pb2.PredictRequest(
        model=prediction_pb2.ModelRef(name=model, version=version),
        inputs=[tensor_pb2.NamedTensor(name="history", tensor=tensor)],
    ).SerializeToString()


def _folder(models: Path, model: str, size: int) -> Brute:
    """Write a version with random weights, and give what numpy answers in its place."""
    catalogue = Catalogue(tuple(map(str, range(size))))
    random = np.random.default_rng(size)
    is_items = model == MODELS[0]
    tensors = _items(random, size) if is_items else _towers(random, size)
    with staged_folder(models, model) as staging:
        files = staging / "files"
        contents = packed({}, KEPT, size)
        for name, content in contents.items():
            (files / name).write_bytes(content)
        (files / (ITEMS if is_items else TOWERS)).write_bytes(save(tensors))
        (files / FILE).write_text(_json(catalogue))
        write_examples(files / "examples.json", [Example({"history": [["0", "1"]]})])
        publish_folder(staging, models, model, {}, {})
    return _brute_items(tensors, size) if is_items else _brute_towers(tensors, catalogue)


def _json(catalogue: Catalogue) -> str:
    items = ",".join(f'"{item}"' for item in catalogue.items)
    return f'{{"format": 1, "items": [{items}], "hashed": false}}'


def _items(random: np.random.Generator, size: int) -> Tensors:
    near = np.sort(random.integers(0, size, (size, NEIGHBOURS)).astype(np.int32), axis=1)
    values = -np.sort(-random.random((size, NEIGHBOURS), np.float32), axis=1)
    decay = torch.tensor(0.95, dtype=torch.float64)
    return {"neighbours": torch.from_numpy(near), "similarities": torch.from_numpy(values), "decay": decay}


def _towers(random: np.random.Generator, size: int) -> Tensors:
    def normal(*shape: int) -> torch.Tensor:
        return torch.from_numpy(random.standard_normal(shape).astype(np.float32)) / 8

    return {
        "vectors": torch.nn.functional.normalize(normal(size, VECTOR)),
        "met": normal(size + 1, VECTOR),
        "up.weight": normal(2 * VECTOR, VECTOR),
        "up.bias": normal(2 * VECTOR),
        "down.weight": normal(VECTOR, 2 * VECTOR),
        "down.bias": normal(VECTOR),
        "fitted": torch.ones(size, dtype=torch.bool),
        "evident": torch.ones(size, dtype=torch.bool),
        "decay": torch.tensor(0.97, dtype=torch.float64),
        "lift": torch.tensor(0.0, dtype=torch.float64),
    }


def _brute_items(tensors: Tensors, size: int) -> Brute:
    near, values = tensors["neighbours"].numpy(), tensors["similarities"].numpy().astype(np.float64)

    def answer(history: Rows) -> Rows:
        met = np.fromiter(dict.fromkeys(history.tolist()), np.int64)
        units = np.round(values[met] * (0.95 ** np.arange(len(met)))[:, None] * SCALE)
        return _best(np.bincount(near[met].ravel(), units.ravel(), minlength=size).astype(np.float64), met)

    return answer


def _brute_towers(tensors: Tensors, catalogue: Catalogue) -> Brute:
    network = two_towers(tensors, catalogue)
    vectors = np.ascontiguousarray(network.vectors.numpy().T)

    def answer(history: Rows) -> Rows:
        met = np.fromiter(dict.fromkeys(history.tolist()), np.int64)
        with torch.no_grad():
            user = network.user(torch.from_numpy(met)[None])[0].numpy()
        scores: Any = vectors @ np.round(user * UNITS).astype(np.float32)
        return _best(scores.astype(np.float64), met)

    return answer


def _best(scores: npt.NDArray[np.float64], met: Rows) -> Rows:
    """The items of the highest scores but those that were met; the lower number of equal ones."""
    scores[met] = -np.inf
    edge = np.partition(scores, len(scores) - BEST)[len(scores) - BEST]
    above = np.flatnonzero(scores >= edge)
    return above[np.lexsort((above, -scores[above]))][:BEST]


if __name__ == "__main__":
    main()
