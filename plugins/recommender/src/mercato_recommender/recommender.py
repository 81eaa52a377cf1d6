"""The models recommender.items and recommender.two_tower: one signature, two graphs; imports no build tool."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mercato_plugin import (
    Axis,
    Batch,
    BatchPolicy,
    BuildContext,
    Example,
    Field,
    GraphSpec,
    Int,
    LoadContext,
    Model,
    ModelSpec,
    Secret,
    SpecContext,
    Tensor,
    Text,
    setting,
)
from mercato_plugin.examples import read_examples
from mercato_recommender.catalogue import FILE, Catalogue, Numbers, read_catalogue
from mercato_recommender.histories import Histories, read_histories

MOST = 100
"""Items of one answer, at most: what the graph ranks."""

HISTORY, CANDIDATES, EXCLUDED = 200, 1000, 1000
"""Items of one row of each list, at most."""

ID_BYTES = 256
RUN_CELLS = 400_000
"""Rows of one run times items: more leave the caches of a CPU, and take several times as long per row."""


@dataclass(frozen=True)
class RecommenderSettings:
    """What an operator may set for the models of mercato-recommender."""

    user_salt: Secret | None = setting(
        None,
        doc="content of the salt file of `mercato train --hash-users`; without it hashed users are unknown",
        build=False,
    )


class Recommender(Model):
    """What one answers next to a history of items; the subclasses differ in their graphs alone."""

    settings = RecommenderSettings
    opset: int | None = None
    doc: str
    _ids: npt.NDArray[np.object_]
    _numbers: Numbers
    _histories: Histories

    def spec(self, ctx: SpecContext) -> ModelSpec:
        """The specification, sized by the model folder's catalogue. Raises FolderError."""
        assert ctx.files is not None
        items = len(read_catalogue(ctx.files / FILE, self.name).items)
        run_rows = min(64, max(1, RUN_CELLS // items))
        return ModelSpec(
            name=self.name,
            inputs=_inputs(),
            outputs=_outputs(),
            parameters={"k": Int(default=10, low=1, high=MOST, doc="items of one answer")},
            graph=_graph(items),
            batch=BatchPolicy(max_rows=64, run_rows=run_rows),
            doc=self.doc,
            license="Apache-2.0",
        )

    def examples(self, ctx: BuildContext) -> Iterable[Example]:
        """What training recorded."""
        assert ctx.files is not None
        return read_examples(ctx.files / "examples.json")

    def load(self, ctx: LoadContext) -> None:
        """Read the catalogue and the known users' histories that build saved."""
        catalogue = read_catalogue(ctx.files / FILE, self.name)
        salt = ctx.settings.user_salt if ctx.settings else None
        self.use(catalogue, read_histories(ctx.files, self.name, catalogue, salt))

    def use(self, catalogue: Catalogue, histories: Histories) -> None:
        """Answer with these items, for these users."""
        self._ids = np.array([*catalogue.items, ""], object)
        self._numbers = Numbers(catalogue)
        self._histories = histories

    def preprocess(self, batch: Batch) -> Mapping[str, Any]:
        """Numbers of items: the history, the latest first, the candidates, and what must not be answered."""
        given = {name: self._lists(batch, name) for name in ("history", "candidates", "exclude")}
        histories = [self._history(ids, user) for ids, user in zip(given["history"], _users(batch), strict=True)]
        candidates = [self._numbers.known(ids) for ids in given["candidates"]]
        bounded = np.array([len(ids) > 0 for ids in given["candidates"]], np.int64)
        excluded = [self._numbers.known(ids) for ids in given["exclude"]]
        # Nobody is told of what they met, unless they ask about it.
        left = [out if asked else out + met for out, met, asked in zip(excluded, histories, bounded, strict=True)]
        absent = len(self._ids) - 1
        return {
            "history": _padded(histories, absent),
            "candidates": _padded(candidates, absent),
            "exclude": _padded(left, absent),
            "bounded": bounded,
        }

    def postprocess(self, outputs: Mapping[str, Any], batch: Batch) -> Mapping[str, Any]:
        """The best k items of each row with their scores; "" and 0 behind the last."""
        items, scores = outputs["items"][:, : batch.parameters["k"]], outputs["scores"][:, : batch.parameters["k"]]
        missing = [(0, 0), (0, batch.parameters["k"] - items.shape[1])]
        return {
            "item_id": self._ids[np.pad(items, missing, constant_values=len(self._ids) - 1)],
            "score": np.pad(scores, missing),
        }

    def _lists(self, batch: Batch, name: str) -> list[list[str]]:
        """Each row's ids; none where the input is absent."""
        rows = batch.inputs[name].tolist()
        return [row[:length] for row, length in zip(rows, batch.lengths[name].tolist(), strict=True)]

    def _history(self, ids: Sequence[str], user: str) -> list[int]:
        """The latest first: of the ids where there are any, else what is known of the user."""
        return self._numbers.known(ids[::-1]) if ids else self._histories.of(user)


class ItemsModel(Recommender):
    """Items that were met by the same people as those of the history."""

    name = "recommender.items"
    doc = "Items that go with a history, by item-based collaborative filtering."
    build: Any = "mercato_recommender.building:build_items"
    train: Any = "mercato_recommender.items_training:train"
    evaluate: Any = "mercato_recommender.judging:evaluate"


class TwoTowerModel(Recommender):
    """Items whose vector is near that of the history."""

    name = "recommender.two_tower"
    doc = "Items near a history, by a tower of users and a tower of items."
    build: Any = "mercato_recommender.building:build_two_tower"
    train: Any = "mercato_recommender.two_tower_training:train"
    evaluate: Any = "mercato_recommender.judging:evaluate"


def _users(batch: Batch) -> list[str]:
    """Each row's user id; empty where it is absent."""
    users: list[str] = batch.inputs["user_id"].tolist()
    return users


def _padded(rows: Sequence[Sequence[int]], absent: int) -> npt.NDArray[np.int64]:
    """Rows side by side, at least one wide; no item behind the end of each."""
    padded = np.full((len(rows), max(1, *map(len, rows))), absent, np.int64)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded


def _inputs() -> dict[str, Field]:
    return {
        "user_id": Text(max_bytes=ID_BYTES, optional=True, doc="whose latest history counts where none is given"),
        "history": _ids("items", HISTORY, "items that the user met, the latest last; wins over user_id"),
        "candidates": _ids("candidates", CANDIDATES, "the only items that may be answered"),
        "exclude": _ids("excluded", EXCLUDED, "items that must not be answered"),
    }


def _ids(axis: str, most: int, doc: str) -> Text:
    return Text(
        max_bytes=ID_BYTES,
        axes=("batch", Axis(axis, max=most)),
        ragged=True,
        optional=True,
        doc=f"{doc}; unknown ids do not count, an empty list is as none",
    )


def _outputs() -> dict[str, Field]:
    axes = ("batch", Axis("k", max=MOST))
    return {
        "item_id": Text(axes=axes, doc='the best first; "" behind the last'),
        "score": Tensor(
            "float32", axes, low=-1.0, doc="at least 0 by the history, below 0 by popularity; 0 behind the last"
        ),
    }


def _graph(items: int) -> GraphSpec:
    best = min(MOST, items)

    def numbers(axis: str, most: int) -> Tensor:
        return Tensor("int64", ("batch", Axis(axis, max=most)), low=0, high=items)

    return GraphSpec(
        inputs={
            "history": numbers("items", HISTORY),
            "candidates": numbers("candidates", CANDIDATES),
            "exclude": numbers("excluded", EXCLUDED + HISTORY),
            "bounded": Tensor("int64", ("batch",), low=0, high=1),
        },
        outputs={"items": Tensor("int64", ("batch", best)), "scores": Tensor("float32", ("batch", best))},
    )
