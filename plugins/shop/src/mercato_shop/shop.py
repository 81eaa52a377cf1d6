"""Writing of a whole shop: every table and picture, then the card that tells how they came about."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mercato_shop import interactions, messages, reviews, sales, taste
from mercato_shop.card import CARD, README, FileFacts, ShopCard, make_card, page
from mercato_shop.catalogue import Catalogue, draw_catalogue, product_table
from mercato_shop.folder import IMAGES, replaced
from mercato_shop.interactions import Visits
from mercato_shop.pictures import write_picture
from mercato_shop.plan import Plan
from mercato_shop.users import draw_users

# Called with the name of a step, and how much of how much of it is done.
OnProgress = Callable[[str, int, int], None]


def write_shop(
    out: Path,
    *,
    language: str = "en",
    products: int = 2_000,
    users: int = 5_000,
    seed: int = 7,
    on_progress: OnProgress | None = None,
) -> ShopCard:
    """Write a shop into the folder `out`, which is new, empty, or an older shop that is replaced.

    The same arguments and library versions give the same bytes.
    Raises InvalidInput, with the argument as field, for what is out of bounds and for a folder that holds other things.
    """
    plan = Plan(language, products, users, seed)
    with replaced(out) as folder:
        return _Writing(plan, folder, on_progress or _unheard).run()


def _unheard(step: str, done: int, total: int) -> None:
    """Take no notice of the progress."""


class _Writing:
    """One shop on its way into a folder, and the facts gathered so far."""

    def __init__(self, plan: Plan, folder: Path, tell: OnProgress) -> None:
        self._plan, self._folder, self._tell = plan, folder, tell
        self._files: list[FileFacts] = []

    def run(self) -> ShopCard:
        """Write all files, and return the card."""
        plan, catalogue = self._plan, draw_catalogue(self._plan)
        self._table("products", product_table(plan, catalogue))
        self._pictures(catalogue)
        self._table("users", draw_users(plan))
        purchases = self._interactions(catalogue)
        written = reviews.draw_reviews(plan, catalogue, purchases)
        self._table("reviews", written.table)
        asked = messages.draw_messages(plan, catalogue)
        self._table("messages", asked.table)
        self._table("sales", sales.draw_sales(plan, catalogue))
        card = make_card(plan, self._files, _signals(plan, written, asked))
        (self._folder / README).write_text(page(plan, card), encoding="utf-8")
        (self._folder / CARD).write_text(card.to_json(), encoding="utf-8")
        return card

    def _table(self, name: str, table: pa.Table) -> None:
        self._stream(name, [table], 1)

    def _stream(self, name: str, parts: Iterable[pa.Table], steps: int) -> None:
        """Write one table, part by part."""
        path, rows, writer = self._folder / f"{name}.parquet", 0, None
        self._tell(name, 0, steps)
        for done, part in enumerate(parts, start=1):
            writer = writer or pq.ParquetWriter(path, part.schema, compression="zstd")
            writer.write_table(part)
            rows += len(part)
            self._tell(name, done, steps)
        if writer:
            writer.close()
        self._files.append(FileFacts(path.name, rows, path.stat().st_size))

    def _interactions(self, catalogue: Catalogue) -> Visits:
        """Write the interactions, some users at a time, and return the purchases."""
        plan, bought = self._plan, list[Visits]()

        def tables() -> Iterable[pa.Table]:
            for visits in interactions.draw_visits(plan, taste.draw_items(plan, catalogue.kind)):
                bought.append(visits.purchases)
                yield interactions.interaction_table(visits)

        self._stream("interactions", tables(), -(-plan.users // interactions.CHUNK))
        return interactions.join_visits(bought)

    def _pictures(self, catalogue: Catalogue) -> None:
        folder, total, size = self._folder / IMAGES, len(catalogue), 0
        folder.mkdir()
        for product in range(total):
            size += write_picture(self._plan, catalogue, product, folder)
            self._tell(IMAGES, product + 1, total)
        self._files.append(FileFacts(IMAGES, total, size))


def _signals(plan: Plan, written: reviews.Reviews, asked: messages.Messages) -> dict[str, Any]:
    """What was planted, table by table."""
    return {
        "interactions": {**taste.signals(), **interactions.signals(plan)},
        "reviews": {**reviews.signals(written.table), "planted": _counted(written.planted)},
        "messages": {**messages.signals(plan.words.messages), "planted": _counted(asked.planted)},
        "sales": sales.signals(plan),
    }


def _counted(planted: list[str]) -> dict[str, int]:
    """How many texts hold each kind of personal data."""
    return dict(sorted(Counter(kind for kind in planted if kind).items()))
