"""What a written shop consists of: the same bytes again, tables that fit together, pictures, and a true card."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.plugins.shop.conftest import PRODUCTS, USERS, Shop

from mercato_client.errors import InvalidInput
from mercato_shop import ShopCard, messages, reviews, sales, taste, write_shop
from mercato_shop.folder import TABLES
from mercato_shop.kinds import KINDS
from mercato_shop.words import LANGUAGES

IDS = {
    "products": "product_id",
    "users": "user_id",
    "reviews": "review_id",
    "messages": "message_id",
    "sales": "sale_id",
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def written(folder: Path, products: int = PRODUCTS, users: int = USERS, seed: int = 7, language: str = "en") -> Path:
    write_shop(folder, language=language, products=products, users=users, seed=seed)
    return folder


def test_the_same_arguments_give_the_same_bytes(shop: Shop, tmp_path: Path) -> None:
    again = written(tmp_path / "again", language=shop.card.language)

    assert contents(again) == contents(shop.folder)


def test_another_seed_changes_every_file(shop: Shop, tmp_path: Path) -> None:
    first, second = contents(shop.folder), contents(written(tmp_path / "other", seed=8, language=shop.card.language))

    assert set(first) == set(second)
    assert [name for name in first if first[name] == second[name]] == []


def test_a_table_stays_as_it_is_when_another_one_grows(tmp_path: Path) -> None:
    one, other = contents(written(tmp_path / "one")), contents(written(tmp_path / "other", users=USERS + 1))

    same = {name for name in one if one[name] == other[name]}
    assert {"products.parquet", "sales.parquet", "images/p000000.png"} <= same
    assert not {"users.parquet", "interactions.parquet", "messages.parquet"} & same


def test_both_languages_have_the_same_numbers(tmp_path: Path) -> None:
    one, other = (written(tmp_path / language, language=language) for language in LANGUAGES)

    for table, columns in {
        "interactions": None,
        "reviews": ["user_id", "rating"],
        "messages": ["user_id", "intent"],
    }.items():
        read = [pq.read_table(folder / f"{table}.parquet", columns=columns) for folder in (one, other)]
        assert read[0].equals(read[1])


def test_identifiers_are_unique_and_lead_somewhere(shop: Shop) -> None:
    for table, column in IDS.items():
        ids = shop.table(table)[column]
        assert len(set(ids)) == len(ids) > 0
    products, users = set(shop.table("products")["product_id"]), set(shop.table("users")["user_id"])
    for table in ("interactions", "reviews", "sales"):
        assert set(shop.table(table)["product_id"]) <= products
    for table in ("interactions", "reviews", "messages"):
        assert set(shop.table(table)["user_id"]) <= users


def test_reviews_follow_purchases(shop: Shop) -> None:
    visits, written = shop.table("interactions"), shop.table("reviews")
    columns = ("user_id", "product_id", "event", "time")
    bought = {row[:2]: row[3] for row in zip(*map(visits.get, columns), strict=True) if row[2] == "purchase"}

    rows = zip(written["user_id"], written["product_id"], written["time"], strict=True)
    assert all(bought[user, product] < time for user, product, time in rows)


def test_nobody_comes_back_to_a_product_and_visits_are_sorted(shop: Shop) -> None:
    visits = shop.table("interactions")

    pairs = list(zip(visits["user_id"], visits["product_id"], strict=True))
    times = list(zip(visits["user_id"], visits["time"], strict=True))
    assert len(set(pairs)) == len(pairs)
    assert times == sorted(times)
    assert set(visits["event"]) == {"view", "cart", "purchase"}


def test_sizes(shop: Shop) -> None:
    rows = {table: len(next(iter(shop.table(table).values()))) for table in TABLES}
    assert (rows["products"], rows["users"], rows["reviews"], rows["messages"]) == (PRODUCTS, USERS, 300, 600)
    assert rows["sales"] == 40 * sales.WEEKS
    assert 20 * USERS <= rows["interactions"] <= 40 * USERS


def test_values_lie_where_the_card_says(shop: Shop) -> None:
    products, written, sold = shop.table("products"), shop.table("reviews"), shop.table("sales")
    words = LANGUAGES[shop.card.language]
    assert set(products["category"]) == {words.goods.kinds[kind].name for kind in KINDS}
    assert set(written["rating"]) == {1, 2, 3, 4, 5}
    assert all(reviews.sentiment_of(r) == s for r, s in zip(written["rating"], written["sentiment"], strict=True))
    assert set(shop.table("messages")["intent"]) == set(messages.INTENTS)
    assert set(sold["season"]) == set(words.goods.seasons.values())
    assert min(sold["units"]) >= 0 and all(0 < p <= q for p, q in zip(sold["price"], sold["list_price"], strict=True))
    for column in sales.MISSING:
        assert 0 < sold[column].count(None) < 0.15 * len(sold[column])


def test_texts_are_mostly_distinct_and_complete(shop: Shop) -> None:
    for table in ("reviews", "messages"):
        texts = shop.table(table)["text"]
        assert len(set(texts)) > 0.9 * len(texts)
    texts = [*shop.table("reviews")["text"], *shop.table("messages")["text"], *shop.table("products")["description"]]
    assert [text for text in texts if "{" in text or "}" in text or not text.strip()] == []


def test_the_chinese_shop_speaks_chinese(tmp_path: Path) -> None:
    folder = written(tmp_path / "zh", products=20, users=20, language="zh")

    table = pq.read_table(folder / "reviews.parquet")
    texts = "".join(table["text"].to_pylist())
    assert sum("一" <= letter <= "鿿" for letter in texts) > 0.6 * len(texts)


def test_pictures(shop: Shop) -> None:
    names = shop.table("products")["image"]
    assert sorted(path.name for path in (shop.folder / "images").iterdir()) == [Path(name).name for name in names]
    for name in names:
        with Image.open(shop.folder / name) as picture:
            assert (picture.size, picture.mode, picture.format) == ((96, 96), "RGB", "PNG")
        assert (shop.folder / name).stat().st_size < 12_000


def test_the_card_tells_what_is_there(shop: Shop) -> None:
    card = json.loads((shop.folder / "card.json").read_text("utf-8"))
    assert card["synthetic"] is True and card["licence"] == "CC0-1.0"
    assert (card["products"], card["users"], card["seed"]) == (PRODUCTS, USERS, 7)
    for file in card["files"]:
        path = shop.folder / file["name"]
        parts = list(path.iterdir()) if path.is_dir() else [path]
        assert sum(part.stat().st_size for part in parts) == file["bytes"]
        assert file["rows"] == (len(parts) if path.is_dir() else pq.read_metadata(path).num_rows)
    for name, columns in card["columns"].items():
        assert pq.read_schema(shop.folder / name).names == columns


def test_the_card_has_the_generators_numbers(shop: Shop) -> None:
    signals, words = shop.card.signals, LANGUAGES[shop.card.language]
    names = [words.goods.kinds[kind].name for kind in KINDS]
    assert signals["sales"]["elasticity"] == dict(zip(names, sales.ELASTICITY.values(), strict=True))
    assert signals["messages"]["intents"] == messages.INTENTS
    assert signals["reviews"]["foreign_phrases"] == reviews.FOREIGN
    assert sum(signals["reviews"]["sentiments"].values()) == pytest.approx(1.0, abs=1e-3)
    assert signals["interactions"]["most"] == PRODUCTS // 3


def test_the_readme_says_first_that_all_is_synthetic(shop: Shop) -> None:
    page = (shop.folder / "README.md").read_text("utf-8")
    assert page.splitlines()[0].startswith("SYNTHETIC DATA")
    for elasticity in sales.ELASTICITY.values():
        assert f"| {elasticity} |" in page
    for columns in LANGUAGES[shop.card.language].card.columns.values():
        assert all(f"| {column} | {meaning} |" in page for column, meaning in columns.items())
    assert "CC0 1.0" in page and "{" not in page


def test_the_distributions_readme_has_the_generators_numbers() -> None:
    readme = (Path(__file__).parents[3] / "plugins" / "shop" / "README.md").read_text("utf-8")
    shares = dict(zip(reviews.SENTIMENTS, (0.22, 0.18, 0.6), strict=True))
    for said in (
        f"another sentiment in {reviews.FOREIGN:.0%} of cases",
        f"gives {reviews.best_accuracy(shares):.1%} accuracy at best",
        f"{messages.AMBIGUOUS:.0%} fit two intents and {messages.VAGUE:.0%} fit any",
        f"so that {messages.best_accuracy(LANGUAGES['en'].messages):.1%} accuracy is the best",
        f"in {reviews.PERSONAL:.0%} of reviews and {messages.PERSONAL:.0%} of messages",
        f"from {sales.ELASTICITY['umbrellas']} (umbrellas) to {sales.ELASTICITY['mugs']} (mugs)",
        f"a promotion lift of {sales.PROMOTION_LIFT}",
        f"correlation {taste.MONTHLY_CORRELATION}",
        f"exponent {taste.ZIPF_EXPONENT}",
    ):
        assert said in readme


def test_the_smallest_shop(tmp_path: Path) -> None:
    card = write_shop(tmp_path / "tiny", products=10, users=10, seed=0)

    assert isinstance(card, ShopCard)
    assert {file.name: file.rows for file in card.files}["reviews.parquet"] == 50


def test_an_older_shop_is_replaced(tmp_path: Path) -> None:
    folder = written(tmp_path / "shop", products=30, users=20)
    written(folder, products=20, users=20)

    assert len(list((folder / "images").iterdir())) == 20
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_progress_is_told_step_by_step(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    write_shop(tmp_path / "shop", products=12, users=20, on_progress=lambda *step: told.append(step))

    assert [step for step, done, total in told if done == total] == [
        *["products"], *["images"], "users", "interactions", "reviews", "messages", "sales",
    ]  # fmt: skip


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(step: str, done: int, total: int) -> None:
        if step == "reviews":
            raise Stopped

    with pytest.raises(Stopped):
        write_shop(tmp_path / "shop", products=12, users=20, on_progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_shop_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="not empty and holds no shop") as refused:
        write_shop(tmp_path, products=12, users=20)
    assert refused.value.field == "out"

    folder = written(tmp_path / "shop", products=12, users=20)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="holds 'notes.txt', which is no part of a shop"):
        write_shop(folder, products=12, users=20)
    assert (folder / "notes.txt").read_text() == (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("")
    with pytest.raises(InvalidInput, match="is a file, expected a folder"):
        write_shop(tmp_path / "shop")
    with pytest.raises(InvalidInput, match="cannot be written"):
        write_shop(tmp_path / "shop" / "below")


@pytest.mark.parametrize(
    ("argument", "value", "says"),
    [
        ("language", "fr", "got 'fr', expected en or zh"),
        ("products", 9, "got 9, expected 10 to 100000"),
        ("products", 100_001, "expected 10 to 100000"),
        ("users", 9, "got 9, expected 10 to 1000000"),
        ("users", 1_000_001, "expected 10 to 1000000"),
        ("seed", -1, "got -1, expected 0 to"),
    ],
)
def test_arguments_out_of_bounds(argument: str, value: object, says: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        write_shop(tmp_path / "shop", **{argument: value})  # type: ignore[arg-type]
    assert refused.value.field == argument
    assert list(tmp_path.iterdir()) == []
