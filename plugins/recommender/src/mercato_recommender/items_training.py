"""`mercato train` for recommender.items."""

from dataclasses import dataclass

import torch

from mercato_recommender import judging
from mercato_recommender.answering import Answering, save
from mercato_recommender.building import ITEMS, best_of
from mercato_recommender.catalogue import Catalogue
from mercato_recommender.interactions import (
    ITEM,
    PURCHASE,
    SCHEMA,
    USER,
    by_popularity,
    numbers,
    queries,
    split,
    weights,
)
from mercato_recommender.items_network import ItemsNetwork
from mercato_recommender.recommender import HISTORY, ItemsModel
from mercato_recommender.similarity import matrix, neighbours
from mercato_training import Data, Evaluation, Table, TrainContext, option


@dataclass(frozen=True)
class Options:
    """What `--set` may change."""

    neighbours: int = option(100, doc="similar items that are kept of each", low=1, high=1000)
    shrinkage: float = option(10.0, doc="users by whom similarities of few common ones are drawn to 0", low=0.0)
    decay: float = option(0.95, doc="what an item of the history counts beside the one after it", low=0.0, high=1.0)
    view: float = option(1.0, doc="weight of a row of event view", low=0.0)
    cart: float = option(1.5, doc="weight of a row of event cart", low=0.0)
    purchase: float = option(2.0, doc="weight of a row of event purchase", low=0.0)


def train(data: Data, ctx: TrainContext) -> Evaluation:
    """Compare the items of the rows before the latest fifth, and judge by that. Raises TrainingError."""
    options = ctx.options(Options)
    table = data.table(SCHEMA)
    parts = split(data, table)
    catalogue = Catalogue(tuple(by_popularity(parts.seen)), hashed=data.user_hash is not None)
    near, similarities = _similar(parts.seen, catalogue, options, ctx)
    decay = torch.tensor(options.decay, dtype=torch.float64)
    ctx.save_tensors(ITEMS, {"neighbours": near, "similarities": similarities, "decay": decay})
    save(catalogue, parts.whole, ctx)
    network = ItemsNetwork(near, similarities, decay=options.decay, longest=HISTORY, best=best_of(catalogue))
    answering = Answering(ItemsModel(), network, catalogue)
    asked = queries(parts.seen, parts.test)
    answering.record(asked, catalogue, ctx)
    ctx.note(items=len(catalogue.items), pairs=int((similarities > 0).sum()))
    return judging.judged(asked, answering.best(asked, ctx), catalogue.items)


def _similar(
    rows: Table, catalogue: Catalogue, options: Options, ctx: TrainContext
) -> tuple[torch.Tensor, torch.Tensor]:
    users = sorted(set(rows[USER].tolist()))
    by_event = {"view": options.view, "cart": options.cart, PURCHASE: options.purchase}
    found = matrix(
        numbers(rows[USER].tolist(), users),
        numbers(rows[ITEM].tolist(), catalogue.items),
        weights(rows, by_event),
        (len(users), len(catalogue.items)),
    )
    return neighbours(found, most=options.neighbours, shrinkage=options.shrinkage, each=ctx.each)
