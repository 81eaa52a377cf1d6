"""The data card: the facts of a written shop, for machines (card.json) and for people (README.md)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mercato_shop.catalogue import CURRENCIES
from mercato_shop.interactions import SHELF_POWER, SHOWN
from mercato_shop.plan import Plan
from mercato_shop.words.shape import CardWords

CARD = "card.json"
README = "README.md"
GENERATOR = "mercato-shop"
LICENCE = "CC0-1.0"
FORMAT = 1
TOOLS = ("mercato-shop", "numpy", "pyarrow", "pillow")


@dataclass(frozen=True)
class FileFacts:
    """One table, or the folder of pictures: its name, its rows or pictures, and its size in bytes."""

    name: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class ShopCard:
    """What a shop consists of, and how its signals were planted."""

    generator: str
    format: int
    synthetic: bool
    language: str
    currency: str
    licence: str
    products: int
    users: int
    seed: int
    tools: dict[str, str]
    files: tuple[FileFacts, ...]
    columns: dict[str, tuple[str, ...]]
    signals: dict[str, Any]

    def to_json(self) -> str:
        """The text of card.json."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n"


def make_card(plan: Plan, files: Iterable[FileFacts], signals: Mapping[str, Any]) -> ShopCard:
    """The card of a shop of this plan with these files."""
    columns = {name: tuple(meanings) for name, meanings in plan.words.card.columns.items()}
    return ShopCard(
        generator=GENERATOR,
        format=FORMAT,
        synthetic=True,
        language=plan.language,
        currency=CURRENCIES[plan.language][0],
        licence=LICENCE,
        products=plan.products,
        users=plan.users,
        seed=plan.seed,
        tools={tool: version(tool) for tool in TOOLS},
        files=tuple(files),
        columns=columns,
        signals=dict(signals),
    )


def is_card(path: Path) -> bool:
    """Whether the file is a card that this generator wrote."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("generator") == GENERATOR


def page(plan: Plan, card: ShopCard) -> str:
    """The text of README.md, in the shop's language; the first line is English."""
    words, signals = plan.words.card, card.signals
    shelf = {"shelf": SHOWN, "rest_power": 1 - SHELF_POWER}
    stars = ", ".join(f"{share:.0%}" for share in signals["reviews"]["stars"])
    return words.page.format(
        products=card.products,
        users=card.users,
        seed=card.seed,
        currency=card.currency,
        tools=", ".join(f"{tool} {number}" for tool, number in card.tools.items()),
        files=_table(words.files_head, [(file.name, f"{file.rows:,}", f"{file.bytes:,}") for file in card.files]),
        columns=_columns(words),
        interactions={**signals["interactions"], **shelf},
        reviews={**signals["reviews"], "stars": stars},
        messages=signals["messages"],
        sales=signals["sales"],
        weeks=signals["sales"]["weeks"],
        sold=plan.sold,
        intents=_table(
            words.intents_head, [(name, f"{share:.0%}") for name, share in signals["messages"]["intents"].items()]
        ),
        planted=", ".join(f"{table} {kind} {count}" for table, kind, count in _planted(signals)),
        demand=_demand(words, signals["sales"]),
    )


def _columns(words: CardWords) -> str:
    tables = ((name, _table(words.columns_head, list(meanings.items()))) for name, meanings in words.columns.items())
    return "\n\n".join(f"### {name}\n\n{table}" for name, table in tables)


def _planted(signals: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    return [
        (table, kind, count) for table in ("reviews", "messages") for kind, count in signals[table]["planted"].items()
    ]


def _demand(words: CardWords, sales: Mapping[str, Any]) -> str:
    seasons = list(next(iter(sales["seasonal"].values())))
    rows = [
        (
            name,
            str(elasticity),
            f"{sales['units'][name]:g}",
            f"{sales['middle_price'][name]:g}",
            *(str(sales["seasonal"][name][season]) for season in seasons),
        )
        for name, elasticity in sales["elasticity"].items()
    ]
    return _table((*words.demand_head, *seasons), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
