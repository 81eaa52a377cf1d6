"""Planted signals can be found again, to the degree that the card states."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier

from mercato_shop import interactions, messages, reviews, sales
from mercato_shop.catalogue import draw_catalogue
from mercato_shop.interactions import Visits, draw_visits, join_visits, tastes_of
from mercato_shop.kinds import COLOURS, KINDS
from mercato_shop.pictures import draw_picture
from mercato_shop.plan import START, Plan
from mercato_shop.taste import MONTHS, Items, draw_items

Array = NDArray[np.float64]


def visits_of(plan: Plan) -> tuple[Items, Visits]:
    items = draw_items(plan, draw_catalogue(plan).kind)
    return items, join_visits(list(draw_visits(plan, items)))


# --- sales ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sold() -> tuple[Plan, dict[str, list[Any]]]:
    plan = Plan(products=2_000)
    table: dict[str, list[Any]] = sales.draw_sales(plan, draw_catalogue(plan)).to_pydict()
    return plan, table


def within(values: Array, product: NDArray[np.int64]) -> Array:
    """The values less their product's mean: what a product itself explains is gone."""
    means = np.bincount(product, values) / np.maximum(np.bincount(product), 1)
    left: Array = values - means[product]
    return left


def coefficients(table: dict[str, list[Any]], category: str) -> Array:
    """Least squares of log(units + 0.5) on log price, promotion and seasons, with an effect per product."""
    rows = np.array([name == category for name in table["category"]])
    _, product = np.unique(np.array(table["product_id"])[rows], return_inverse=True)
    seasons = np.array(table["season"])[rows]
    columns = [
        np.log(np.array(table["price"])[rows]),
        np.array(table["promotion"], dtype=float)[rows],
        *(1.0 * (seasons == season) for season in sales.SEASONS[1:]),
    ]
    units = np.log(np.array(table["units"])[rows] + 0.5)
    found, *_ = np.linalg.lstsq(
        np.column_stack([within(column, product) for column in columns]), within(units, product), rcond=None
    )
    return np.asarray(found)


@pytest.mark.parametrize("kind", KINDS)
def test_elasticities_promotions_and_seasons_are_found(kind: str, sold: tuple[Plan, dict[str, list[Any]]]) -> None:
    plan, table = sold

    elasticity, lift, *seasons = coefficients(table, plan.words.goods.kinds[kind].name)

    assert elasticity == pytest.approx(sales.ELASTICITY[kind], abs=0.3)
    assert lift == pytest.approx(np.log(sales.PROMOTION_LIFT), abs=0.1)
    factors = np.array(sales.SEASONAL[kind])
    assert seasons == pytest.approx(np.log(factors[1:] / factors[0]), abs=0.15)


def test_the_season_is_that_of_the_monday(sold: tuple[Plan, dict[str, list[Any]]]) -> None:
    _, table = sold
    by_month = dict(zip((week.month for week in table["week"]), table["season"], strict=True))
    assert {week.weekday() for week in table["week"]} == {0}
    assert [by_month[month] for month in (1, 3, 6, 9, 11, 12)] == [
        "winter", "spring", "summer", "autumn", "autumn", "winter",
    ]  # fmt: skip


def test_stock_never_limits_sales(sold: tuple[Plan, dict[str, list[Any]]]) -> None:
    _, table = sold
    assert all(stock is None or stock >= units for stock, units in zip(table["stock"], table["units"], strict=True))


# --- interactions -----------------------------------------------------------------------------------------------------


def month_of(visits: Visits) -> NDArray[np.int64]:
    return (visits.time - START.astype(np.int64)) * MONTHS // (365 * 86_400)


def mean_rank(scores: Array, visits: Visits) -> float:
    """Where the visited products stand on average among all products of a row (users, products); 0 is the top."""
    place = np.argsort(np.argsort(-scores, axis=1), axis=1)
    return float(place[visits.user, visits.product].mean() / scores.shape[1])


def test_late_visits_fit_the_taste_of_their_month_better_than_popularity() -> None:
    plan = Plan(products=600, users=400)
    items, visits = visits_of(plan)
    tastes = tastes_of(plan, items, 0, plan.users)
    late = visits.chosen(month_of(visits) == MONTHS - 1)

    by_popularity = mean_rank(np.tile(items.popularity, (plan.users, 1)), late)
    by_first_taste = mean_rank(tastes[:, 0] @ items.factors.T, late)
    by_last_taste = mean_rank(tastes[:, -1] @ items.factors.T, late)

    assert by_last_taste < by_first_taste < by_popularity < 0.5
    assert by_last_taste < 0.75 * by_popularity


def test_tastes_drift_slowly() -> None:
    plan = Plan(products=60, users=400)
    tastes = tastes_of(plan, visits_of(plan)[0], 0, plan.users)

    kept = [float((tastes[:, 0] * tastes[:, month]).sum(axis=1).mean()) for month in range(MONTHS)]
    assert kept == sorted(kept, reverse=True)
    assert kept[1] == pytest.approx(0.985, abs=0.01) and 0.75 < kept[-1] < 0.92


def test_popularity_has_a_long_tail() -> None:
    plan = Plan(products=600, users=500)
    items, visits = visits_of(plan)
    counts = np.sort(np.bincount(visits.product, minlength=plan.products))[::-1]
    assert counts[:60].sum() > 0.25 * counts.sum() and counts[-300:].sum() < 0.3 * counts.sum()
    assert np.corrcoef(items.popularity, np.bincount(visits.product, minlength=plan.products))[0, 1] > 0.6


def test_what_fits_is_bought_more_often_and_events_have_their_shares() -> None:
    _, visits = visits_of(Plan(products=300, users=500))
    shares = np.bincount(visits.event) / len(visits.event)
    assert 0.6 < shares[0] < 0.8 and 0.1 < shares[1] < 0.2 and 0.1 < shares[2] < 0.2
    assert visits.purchases.fit.mean() > visits.fit.mean() + 0.05
    assert len(set(visits.purchases.user.tolist())) == 500


def test_memory_does_not_grow_with_users() -> None:
    plan = Plan(products=10, users=1_200)
    items = draw_items(plan, draw_catalogue(plan).kind)
    assert [len(set(part.user.tolist())) for part in draw_visits(plan, items)] == [512, 512, 176]
    assert interactions.CHUNK == 512


# --- texts ------------------------------------------------------------------------------------------------------------


def accuracy(texts: Sequence[str], labels: Sequence[str], language: str) -> float:
    """A bag of words (of characters in Chinese) and naive Bayes, fitted to the first four of five texts."""
    bag = TfidfVectorizer(ngram_range=(1, 2), analyzer="word" if language == "en" else "char", sublinear_tf=True)
    cut = len(texts) * 4 // 5
    model = MultinomialNB(alpha=0.1).fit(bag.fit_transform(texts[:cut]), labels[:cut])
    right = np.asarray(model.predict(bag.transform(texts[cut:]))) == np.array(labels[cut:])
    return float(right.mean())


@pytest.fixture(scope="module", params=["en", "zh"])
def reviewed(request: pytest.FixtureRequest) -> tuple[str, pa.Table]:
    plan = Plan(request.param, products=600, users=500)
    catalogue = draw_catalogue(plan)
    visits = join_visits(list(draw_visits(plan, draw_items(plan, catalogue.kind))))
    return request.param, reviews.draw_reviews(plan, catalogue, visits.purchases).table


def test_sentiment_can_be_told_but_not_always(reviewed: tuple[str, pa.Table]) -> None:
    language, table = reviewed
    best = reviews.signals(table)["best_accuracy"]

    found = accuracy(table["text"].to_pylist(), table["sentiment"].to_pylist(), language)

    assert 0.72 < found < best < 0.92


def test_the_five_ratings_have_their_shares(reviewed: tuple[str, pa.Table]) -> None:
    _, table = reviewed
    shares = np.bincount(np.array(table["rating"]), minlength=6)[1:] / len(table)
    assert shares == pytest.approx(reviews.STARS, abs=1e-3)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_intents_can_be_told_but_not_always(language: str) -> None:
    plan = Plan(language, products=300, users=2_500)
    table = messages.draw_messages(plan, draw_catalogue(plan)).table
    best = messages.best_accuracy(plan.words.messages)

    found = accuracy(table["text"].to_pylist(), table["intent"].to_pylist(), language)

    assert 0.84 < found < best + 0.02
    assert best < 0.94
    shares = [table["intent"].to_pylist().count(intent) / len(table) for intent in messages.INTENTS]
    assert shares == pytest.approx(list(messages.INTENTS.values()), abs=0.02)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_pictures_show_their_category() -> None:
    plan = Plan(products=400)
    catalogue = draw_catalogue(plan)
    shapes = []
    for product in range(plan.products):
        pixels = np.asarray(draw_picture(plan, catalogue, product)).astype(np.float64)
        # A row's outermost pixel is its background.
        shapes.append(np.abs(pixels - pixels[:, :1]).max(axis=2).reshape(16, 6, 16, 6).mean(axis=(1, 3)).ravel() / 255)
    cut = 320

    model = KNeighborsClassifier(3).fit(np.array(shapes[:cut]), catalogue.kind[:cut])

    assert model.score(np.array(shapes[cut:]), catalogue.kind[cut:]) > 0.5


def test_pictures_have_their_products_colour() -> None:
    plan = Plan(products=60)
    catalogue = draw_catalogue(plan)
    for product in range(60):
        pixels = np.asarray(draw_picture(plan, catalogue, product)).reshape(-1, 3)
        colour = np.array(COLOURS[tuple(COLOURS)[catalogue.colour[product]]])
        shades = np.clip(colour * np.linspace(0.88, 1.12, 25)[:, None], 0, 255)
        near = np.abs(pixels[:, None] - shades).max(axis=2).min(axis=1) < 4
        assert near.mean() > 0.01
