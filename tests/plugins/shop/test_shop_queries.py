"""Queries ask for what their answers have, in words of which a share stands in no product's text."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.plugins.shop.conftest import PRODUCTS, Shop

from mercato_shop.catalogue import draw_catalogue
from mercato_shop.plan import Plan
from mercato_shop.queries import SYNONYMS, WAYS, draw_queries, signals
from mercato_shop.words import LANGUAGES

GIVEN = {"text": (True, False), "image": (False, True), "both": (True, True)}
WANTED = ("category", "item", "colour", "material")


def test_answers_are_all_products_that_have_what_is_wanted(shop: Shop) -> None:
    products, queries = shop.table("products"), shop.table("queries")
    rows = [dict(zip(products, row, strict=True)) for row in zip(*products.values(), strict=True)]
    assert len(queries["query_id"]) == 2 * PRODUCTS
    for row in zip(*(queries[name] for name in ("products", *WANTED)), strict=True):
        answers, (category, item, colour, material) = row[0], row[1:]
        fitting = [
            product["product_id"]
            for product in rows
            if product["category"] == category
            and (item is None or item in product["name"])
            and colour in (None, product["colour"])
            and material in (None, product["material"])
        ]
        assert answers == fitting


def test_queries_have_words_pictures_or_both_in_the_stated_shares(shop: Shop) -> None:
    queries = shop.table("queries")
    pairs = zip(queries["text"], queries["image"], strict=True)
    given = [(text is not None, image is not None) for text, image in pairs]
    shares = {name: given.count(pair) / len(given) for name, pair in GIVEN.items()}
    assert shares == pytest.approx(signals()["ways"])
    assert shop.card.signals["queries"] == signals()


def test_a_query_shows_its_product_anew(shop: Shop) -> None:
    names = [name for name in shop.table("queries")["image"] if name]
    assert sorted(path.name for path in (shop.folder / "queries").iterdir()) == sorted(Path(n).name for n in names)
    pictures = {path.read_bytes() for path in (shop.folder / "images").iterdir()}
    for name in names:
        assert (shop.folder / name).read_bytes() not in pictures
        with Image.open(shop.folder / name) as picture:
            assert (picture.size, picture.mode, picture.format) == ((96, 96), "RGB", "PNG")


@pytest.mark.parametrize("language", LANGUAGES)
def test_other_words_for_colours_and_categories_stand_in_no_product(language: str) -> None:
    words = LANGUAGES[language]
    goods = words.goods
    parts = [text for kind in goods.kinds.values() for text in (*kind.materials, *kind.features, *kind.uses)]
    parts += [text for kind in goods.kinds.values() for item in kind.items for text in (item.title, item.noun)]
    said = " ".join([*parts, *goods.colours.values(), *(kind.name for kind in goods.kinds.values())]).lower()
    known = set(said.split()) if language == "en" else said
    others = [
        word for group in (words.queries.colours, words.queries.kinds) for each in group.values() for word in each
    ]
    assert [word for word in others if word in known] == []
    assert set(words.queries.colours) == set(goods.colours) and set(words.queries.kinds) == set(goods.kinds)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_stated_share_of_colours_is_said_in_other_words(language: str) -> None:
    plan = Plan(language, products=2_000)
    table = draw_queries(plan, draw_catalogue(plan)).table.to_pylist()
    asked = [row for row in table if row["colour"] and row["text"] and not row["image"]]
    own = np.mean([row["colour"] in row["text"] for row in asked])
    assert own == pytest.approx(1 - SYNONYMS, abs=0.08)


def test_every_way_of_asking_has_its_patterns() -> None:
    for words in LANGUAGES.values():
        assert {"+".join(asked) for way, asked in WAYS if way == "text"} <= set(words.queries.patterns)
        assert all(pattern for patterns in words.queries.patterns.values() for pattern in patterns)
