"""reviews.parquet: what buyers wrote, with ratings from quality and taste, and words that mostly agree with them."""

from bisect import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import factorial, prod
from typing import Any

import numpy as np
import pyarrow as pa

from mercato_shop.catalogue import Catalogue
from mercato_shop.ids import Indices, product_ids, row_ids, timestamps, user_ids
from mercato_shop.interactions import Visits
from mercato_shop.personal import disclosure
from mercato_shop.plan import Plan
from mercato_shop.taste import Array
from mercato_shop.writing import Dice, append, join, mistype

SENTIMENTS = ("negative", "neutral", "positive")
# Reviews are ordered by QUALITY * quality + FIT * cosine + standard normal noise; from the lowest, these shares of them
# have 1 to 5 stars, whatever the size of the shop.
QUALITY, FIT = 0.7, 1.0
STARS = (0.11, 0.11, 0.18, 0.28, 0.32)
# Each phrase is drawn from another sentiment than the review's with this probability.
FOREIGN = 0.18
# Reviews have one to four phrases; the shares of those with at most one, two and three.
PHRASES = (0.2, 0.55, 0.85)
# Shares of reviews that open with a contrast; the sentiment's own phrase stands last, in a neutral one both others.
CONTRASTS = {"negative": 0.15, "neutral": 0.4, "positive": 0.15}
# Kinds of phrases: on an aspect, a last word, else a verdict; of the verdicts, denials and intensified ones.
ASPECT, CLOSER, DENIAL, INTENSE = 0.6, 0.15, 0.35, 0.5
FACT, MISTYPED, PERSONAL = 0.45, 0.12, 0.02
# From one aspect to the next: prime to their number, so that none comes twice.
STEP = 3
# Days from the purchase to the review.
DELAY = (2, 21)


@dataclass(frozen=True)
class Reviews:
    """The table, and per row the kind of the personal data planted in its text, empty for none."""

    table: pa.Table
    planted: list[str]


def draw_reviews(plan: Plan, catalogue: Catalogue, purchases: Visits) -> Reviews:
    """Reviews of purchases, sorted by time; buyers come back with a second one only where purchases are too few."""
    rng = plan.stream("reviews")
    chosen = _chosen(rng, len(purchases.user), plan.reviews)
    time = purchases.time[chosen] + rng.integers(DELAY[0] * 86_400, DELAY[1] * 86_400, len(chosen))
    order = np.argsort(time, kind="stable")
    chosen, time = chosen[order], time[order]
    product = purchases.product[chosen]
    rating = _ratings(rng, catalogue.quality[product], purchases.fit[chosen])
    author = Author(plan, Dice(rng))
    texts = [author.write(int(stars), catalogue.slots[item]) for stars, item in zip(rating, product, strict=True)]
    table = pa.table(
        {
            "review_id": row_ids("r", len(chosen)),
            "user_id": user_ids(purchases.user[chosen].tolist()),
            "product_id": product_ids(product.tolist()),
            "rating": pa.array(rating, pa.int8()),
            "sentiment": [sentiment_of(int(stars)) for stars in rating],
            "text": [text for text, _ in texts],
            "time": timestamps(time),
        }
    )
    return Reviews(table, [kind for _, kind in texts])


def sentiment_of(rating: int) -> str:
    """1 and 2 stars are negative, 3 neutral, 4 and 5 positive."""
    return SENTIMENTS[(rating > 2) + (rating > 3)]


class Author:
    """Writes reviews in the language of a plan."""

    def __init__(self, plan: Plan, dice: Dice) -> None:
        self._language, self._words, self._dice = plan.language, plan.words, dice
        self._aspects = list(plan.words.reviews.aspects.values())

    def write(self, rating: int, slots: dict[str, str]) -> tuple[str, str]:
        """A text about the product of these words, and the kind of personal data in it, empty for none."""
        dice, words = self._dice, self._words
        clauses = [clause.format_map(self._filled(slots)) for clause in self._clauses(rating)]
        text = join(clauses, words.reviews.marks, dice)
        text = mistype(text, words.slips, dice) if dice.chance(MISTYPED) else text
        if not dice.chance(PERSONAL):
            return text, ""
        kind, clause = disclosure(self._language, words.personal, dice)
        return append(text, clause, words.reviews.marks), kind

    def _clauses(self, rating: int) -> list[str]:
        """Phrases, each of the rating's sentiment or, by chance, of another; perhaps among them a fact of none."""
        dice, sentiment, extreme = self._dice, sentiment_of(rating), rating in (1, 5)
        first, count = dice.below(len(self._aspects)), 1 + bisect(PHRASES, dice.roll())
        clauses = [self._phrase(self._heard(sentiment), first + STEP * place, extreme) for place in range(count)]
        if dice.chance(CONTRASTS[sentiment]):
            clauses[0] = self._contrast(sentiment, first - STEP)
        if dice.chance(FACT):
            clauses.insert(dice.below(len(clauses) + 1), dice.pick(self._words.reviews.facts))
        return clauses

    def _heard(self, sentiment: str) -> str:
        """The sentiment of a phrase in a review of this sentiment."""
        if not self._dice.chance(FOREIGN):
            return sentiment
        return self._dice.pick([other for other in SENTIMENTS if other != sentiment])

    def _contrast(self, sentiment: str, aspect: int) -> str:
        """A phrase that begins one way and ends another."""
        pair = ["positive", "negative"]
        if sentiment == pair[0] or (sentiment == "neutral" and self._dice.chance(0.5)):
            pair.reverse()
        first, second = (self._on(aspect + place, heard) for place, heard in enumerate(pair))
        pattern = self._dice.pick(self._words.reviews.contrasts[pair[1]])
        return pattern.replace("{first}", first).replace("{second}", second)

    def _phrase(self, sentiment: str, aspect: int, extreme: bool) -> str:
        kind = self._dice.roll()
        if kind < ASPECT:
            return self._on(aspect, sentiment)
        if kind < ASPECT + CLOSER:
            return self._dice.pick(self._words.reviews.verdicts[sentiment].closers)
        return self._verdict(sentiment, extreme)

    def _on(self, aspect: int, sentiment: str) -> str:
        return self._dice.pick(self._aspects[aspect % len(self._aspects)][sentiment])

    def _verdict(self, sentiment: str, extreme: bool) -> str:
        """A judgement: a denial, or an adjective, strengthened or weakened unless it is a neutral one."""
        dice, words = self._dice, self._words.reviews
        if dice.chance(DENIAL):
            return dice.pick(words.verdicts[sentiment].denials)
        how = dice.pick(words.verdicts[sentiment].adjectives)
        if sentiment != "neutral" and dice.chance(INTENSE):
            how = f"{dice.pick(words.strong if extreme else words.mild)}{words.marks.space}{how}"
        return dice.pick(words.patterns).replace("{how}", how)

    def _filled(self, slots: dict[str, str]) -> dict[str, str]:
        """The product's words, with a number and a person for the facts."""
        words = self._words.reviews
        return {**slots, "number": str(self._dice.between(2, 9)), "person": self._dice.pick(words.people)}


def _chosen(rng: np.random.Generator, purchases: int, wanted: int) -> Indices:
    """Purchases to review: each once, and again from the beginning where there are too few."""
    return np.resize(rng.permutation(purchases), wanted)


def _ratings(rng: np.random.Generator, quality: Array, fit: Array) -> Indices:
    """Stars from 1 to 5."""
    score = QUALITY * quality + FIT * fit + rng.standard_normal(len(quality))
    place = np.argsort(np.argsort(score)) / len(score)
    return 1 + np.searchsorted(np.cumsum(STARS)[:-1], place, side="right")


def best_accuracy(shares: Mapping[str, float]) -> float:
    """The accuracy of a reader who knows each phrase's sentiment and how texts are drawn: nobody can do better.

    `shares` are those of the three sentiments among the reviews.
    """
    right = 0.0
    edges = (0.0, *PHRASES, 1.0)
    for count in range(1, len(edges)):
        for read in combinations_with_replacement(SENTIMENTS, count):
            alone = max(shares[real] * (1 - CONTRASTS[real]) * _likelihood(read, real) for real in SENTIMENTS)
            right += (edges[count] - edges[count - 1]) * alone
        for read in combinations_with_replacement(SENTIMENTS, count - 1):
            for last in ("negative", "positive"):
                seen = {real: CONTRASTS[real] * _likelihood(read, real) * _ends(real, last) for real in SENTIMENTS}
                right += (edges[count] - edges[count - 1]) * max(shares[real] * seen[real] for real in SENTIMENTS)
    return right


def _ends(sentiment: str, last: str) -> float:
    """The probability that a contrast in such a review ends this way."""
    return 0.5 if sentiment == "neutral" else float(sentiment == last)


def _likelihood(read: Sequence[str], sentiment: str) -> float:
    """The probability of so many phrases of each sentiment in a review of this one, in any order."""
    orders = factorial(len(read)) / prod(factorial(count) for count in Counter(read).values())
    return orders * prod(1 - FOREIGN if heard == sentiment else FOREIGN / 2 for heard in read)


def signals(table: pa.Table) -> dict[str, Any]:
    """How ratings and texts were drawn, and how the sentiments came out in this table."""
    found = Counter(table["sentiment"].to_pylist())
    shares = {sentiment: found[sentiment] / len(table) for sentiment in SENTIMENTS}
    return {
        "rating_quality": QUALITY,
        "rating_fit": FIT,
        "stars": list(STARS),
        "sentiments": {sentiment: round(share, 4) for sentiment, share in shares.items()},
        "foreign_phrases": FOREIGN,
        "phrases": list(PHRASES),
        "contrasts": dict(CONTRASTS),
        "best_accuracy": round(best_accuracy(shares), 3),
        "denials": DENIAL,
        "facts": FACT,
        "mistyped": MISTYPED,
        "personal": PERSONAL,
    }
