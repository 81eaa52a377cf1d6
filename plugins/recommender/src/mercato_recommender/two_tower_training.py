"""`mercato train` for recommender.two_tower."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mercato_recommender import judging
from mercato_recommender.answering import Answering, save
from mercato_recommender.building import TOWERS, two_towers
from mercato_recommender.catalogue import Catalogue
from mercato_recommender.features import Sources, described
from mercato_recommender.interactions import (
    ITEM,
    SCHEMA,
    Query,
    Split,
    by_popularity,
    histories,
    numbers,
    queries,
    split,
)
from mercato_recommender.recommender import TwoTowerModel
from mercato_recommender.tower_fit import SPREAD, ItemTower, Samples, Towers, lift, log_shares, recall, samples
from mercato_recommender.tower_network import UserTower
from mercato_training import Data, Evaluation, TrainContext, option

LONGEST = 50
"""Items of a history that the fit looks at, the latest."""

STOP_ROWS = 20_000
"""Rows that the fit is stopped by, at most."""


@dataclass(frozen=True)
class Options:
    """What `--set` may change."""

    size: int = option(64, doc="components of a vector", low=4, high=256)
    learning_rate: float = option(0.003, doc="of AdamW", low=1e-6, high=1.0)
    weight_decay: float = option(0.0, doc="of AdamW", low=0.0, high=10.0)
    batch_rows: int = option(512, doc="rows of one step, which are each other's negatives", low=2)
    temperature: float = option(0.07, doc="what cosines are divided by", low=0.001, high=10.0)
    decay: float = option(0.97, doc="what an item of the history counts beside the one after it", low=0.0, high=1.0)
    text: bool = option(False, doc="describe items by the names in the table products, read by a sentence encoder")
    encoder: Path | None = option(None, doc="folder of that encoder; the English MiniLM-L6 when not given")
    vision: Path | None = option(None, doc="describe items by their pictures: a model folder of vision.category")
    hidden: float = option(0.2, doc="share of rows fitted by the description alone", low=0.0, high=1.0)
    new_share: float = option(
        0.1,
        doc="share of the best 20 for described items that nobody met, or their share of the items",
        low=0.0,
        high=1.0,
    )
    cold_share: float = option(0.0, doc="share of items left out of the fit, to judge by", low=0.0, high=0.9)

    @property
    def sources(self) -> Sources:
        """What describes items."""
        return Sources(self.text, self.encoder, self.vision)


def train(data: Data, ctx: TrainContext) -> Evaluation:
    """Fit both towers to the first seven tenths, stop by the next, judge by the rest. Raises TrainingError."""
    options = ctx.options(Options)
    parts = split(data, data.table(SCHEMA), options.cold_share)
    ids, features = described(by_popularity(parts.seen), data, options.sources, ctx)
    catalogue = Catalogue(tuple(ids), hashed=data.user_hash is not None)
    fit, stop = _samples(parts, catalogue, ctx.seed)
    fitted = _met(parts, catalogue)
    towers = _fitted(fit, stop, fitted, features, options, ctx)
    found = _tensors(towers, fitted, features, stop, options)
    ctx.save_tensors(TOWERS, found)
    save(catalogue, parts.whole, ctx)
    answering = Answering(TwoTowerModel(), two_towers(found, catalogue), catalogue)
    asked = queries(parts.seen, parts.test)
    answering.record(asked, catalogue, ctx)
    ctx.note(items=len(ids), described=int(features.any(dim=1).sum()), cold=len(parts.cold))
    answers = list(answering.best(asked, ctx))
    found_all = judging.judged(asked, answers, catalogue.items)
    return Evaluation({**found_all.metrics, **_cold(asked, answers, parts)}, found_all.rows)


def _met(parts: Split, catalogue: Catalogue) -> torch.Tensor:
    """Which items have a row to be fitted to, bool (items,)."""
    fitted = torch.zeros(len(catalogue.items), dtype=torch.bool)
    fitted[numbers(sorted(set(parts.fit[ITEM].tolist())), catalogue.items)] = True
    return fitted


def _fitted(
    fit: Samples, stop: Samples, fitted: torch.Tensor, features: torch.Tensor, options: Options, ctx: TrainContext
) -> Towers:
    fit, stop = fit.to(ctx.device), stop.to(ctx.device)
    towers = _towers(fitted, features, log_shares(fit.target.cpu(), len(fitted)), options)
    ctx.fit(
        towers,
        len(fit.target),
        lambda module, rows: module(fit.history[rows], fit.target[rows]),
        lambda module: -recall(towers, stop, options.batch_rows) if len(stop.target) else 0.0,
        epochs=12,
        learning_rate=options.learning_rate,
        batch_rows=options.batch_rows,
        patience=2,
        weight_decay=options.weight_decay,
    )
    return towers.cpu()


def _towers(fitted: torch.Tensor, features: torch.Tensor, shares: torch.Tensor, options: Options) -> Towers:
    user = UserTower(fitted, options.size, decay=options.decay, longest=LONGEST)
    torch.nn.init.normal_(user.met.weight, std=SPREAD)
    item = ItemTower(len(fitted), options.size, features, options.hidden)
    return Towers(user, item, shares, options.temperature)


def _samples(parts: Split, catalogue: Catalogue, seed: int) -> tuple[Samples, Samples]:
    """Rows to fit, and some of those to stop by, whose histories are all of what was met before."""
    before, after = histories(parts.fit), histories(parts.stop)
    to_fit = [_known(met, catalogue) for met in before.values()]
    new = {user: [item for item in met if item not in before[user]] for user, met in after.items() if user in before}
    joined = [_known(before[user] + met, catalogue) for user, met in new.items()]
    starts = [len(_known(before[user], catalogue)) for user in new]
    fit = samples(to_fit, [1] * len(to_fit), LONGEST, catalogue.absent)
    stop = samples(joined, starts, LONGEST, catalogue.absent)
    order = np.random.default_rng(seed).permutation(len(stop.target))[:STOP_ROWS]
    return fit, Samples(stop.history[order], stop.target[order])


def _known(items: list[str], catalogue: Catalogue) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return numbers(items, catalogue.items)


def _tensors(
    towers: Towers, fitted: torch.Tensor, features: torch.Tensor, stop: Samples, options: Options
) -> dict[str, torch.Tensor]:
    """What the folder keeps: the user's tower, and the vector of every item."""
    towers.eval()
    with torch.no_grad():
        # An item that was never fitted has no vector of its own, only what its features say.
        towers.item.own.weight[~fitted] = 0.0
        vectors = towers.item(torch.arange(len(fitted)))
        is_new = features.any(dim=1) & ~fitted
        lifted = lift(towers, vectors, is_new, min(options.new_share, float(is_new.float().mean())), stop)
    layers = {name: value for name, value in towers.user.state_dict().items() if name.startswith(("up.", "down."))}
    return {
        **layers,
        "met": towers.user.met.weight,
        "vectors": vectors,
        "fitted": fitted,
        "evident": fitted | features.any(dim=1),
        "decay": torch.tensor(options.decay, dtype=torch.float64),
        "lift": torch.tensor(lifted, dtype=torch.float64),
    }


def _cold(asked: list[Query], answers: list[list[str]], parts: Split) -> dict[str, float]:
    """Recall and NDCG of the items that were left out, among all items; popularity knows none of them."""
    means = judging.means(answers, [query.wanted & parts.cold for query in asked])
    return {f"{name}.cold": value for name, value in means.items()}
