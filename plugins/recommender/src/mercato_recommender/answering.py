"""What a network answers while it is trained: the whole way of a request, so that what is judged is what is served."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mercato_plugin import Batch
from mercato_recommender.catalogue import FILE, Catalogue
from mercato_recommender.histories import Histories, packed
from mercato_recommender.interactions import Query, histories, numbers
from mercato_recommender.judging import MOST
from mercato_recommender.recommender import CANDIDATES, HISTORY, Recommender
from mercato_training import Table, TrainContext

KEPT = 50
"""Items of a known user's history that serving keeps, the latest."""

BATCH_ROWS = 256
RECORDED = 16
"""Histories whose answers are kept for the certificate."""

LISTS = ("history", "candidates", "exclude")


class Answering:
    """A model with its network, as a worker has them."""

    def __init__(self, model: Recommender, network: torch.nn.Module, catalogue: Catalogue) -> None:
        model.use(catalogue, Histories((), np.zeros((0, KEPT), np.int32), catalogue.absent))
        self._model = model
        self._network = network.cpu().double().eval()

    def best(self, asked: Sequence[Query], ctx: TrainContext) -> Iterator[list[str]]:
        """The best items for each history."""
        starts = range(0, len(asked), BATCH_ROWS)
        for start in ctx.each("judge", starts, len(starts)):
            rows = [list(query.history[-HISTORY:]) for query in asked[start : start + BATCH_ROWS]]
            yield from self.answer({"history": rows}, MOST)["item_id"].tolist()

    def answer(self, inputs: Mapping[str, Sequence[Any]], k: int) -> Mapping[str, Any]:
        """Outputs by name; inputs that are not given are absent."""
        batch = batch_of(inputs, k)
        taken = {name: torch.from_numpy(value) for name, value in self._model.preprocess(batch).items()}
        with torch.no_grad():
            found = self._network(**taken)
        return self._model.postprocess({name: value.numpy() for name, value in found.items()}, batch)

    def record(self, asked: Sequence[Query], catalogue: Catalogue, ctx: TrainContext) -> None:
        """Keep answers: to histories, to candidates with some left out, and to nobody."""
        rows = [list(query.history[-HISTORY:]) for query in asked[:RECORDED]]
        some = [list(catalogue.items[place::RECORDED][:CANDIDATES]) for place in range(len(rows))]
        requests: list[dict[str, Any]] = [
            {"history": rows},
            {"history": rows, "candidates": some, "exclude": [items[:2] for items in some]},
            {"user_id": [""], "exclude": [list(catalogue.items[:1])]},
        ]
        for inputs in requests:
            ctx.record(inputs, self.answer(inputs, k=10))


def save(catalogue: Catalogue, table: Table, ctx: TrainContext) -> None:
    """The catalogue, and the latest history of every user of the table, whose rows are sorted by time."""
    ctx.save_json(FILE, catalogue.plain())
    places = {user: numbers(items, catalogue.items) for user, items in histories(table).items()}
    known = {user: found[found >= 0].tolist() for user, found in places.items()}
    for name, content in packed({user: met for user, met in known.items() if met}, KEPT, catalogue.absent).items():
        ctx.save(name, content)


def batch_of(inputs: Mapping[str, Sequence[Any]], k: int) -> Batch:
    """The batch that a worker makes of a request."""
    rows = len(next(iter(inputs.values())))
    lists = {name: inputs.get(name, [[]] * rows) for name in LISTS}
    lengths = {name: np.array([len(row) for row in given], np.int64) for name, given in lists.items()}
    arrays = {name: _padded(given) for name, given in lists.items()}
    users = np.array(inputs.get("user_id", [""] * rows), object)
    present = {name: np.full(rows, name in inputs) for name in (*LISTS, "user_id")}
    return Batch({**arrays, "user_id": users}, rows, {"k": k}, lengths, present)


def _padded(rows: Sequence[Sequence[str]]) -> Any:
    padded = np.full((len(rows), max(1, *map(len, rows))), "", object)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = list(row)
    return padded
