"""messages.parquet: what customers ask, with the intent, and a share whose intent cannot be told."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mercato_shop.catalogue import Catalogue
from mercato_shop.ids import Indices, row_ids, timestamps, user_ids
from mercato_shop.personal import disclosure
from mercato_shop.plan import DAYS, START, Plan
from mercato_shop.words.shape import MessageWords
from mercato_shop.writing import Dice, append, join, mistype

# Intent to its share of the messages.
INTENTS: Mapping[str, float] = {
    "order_status": 0.18,
    "return_item": 0.13,
    "refund": 0.10,
    "cancel_order": 0.09,
    "change_address": 0.07,
    "payment_problem": 0.09,
    "product_question": 0.13,
    "complaint": 0.09,
    "discount_code": 0.06,
    "invoice": 0.06,
}
# Of these messages, one half as good as another intent's; and of these, nothing tells the intent.
AMBIGUOUS, VAGUE = 0.12, 0.04
GREETING, CONTEXT, THANKS, MISTYPED, PERSONAL = 0.4, 0.3, 0.35, 0.25, 0.04


@dataclass(frozen=True)
class Messages:
    """The table, and per row the kind of the personal data planted in its text, empty for none."""

    table: pa.Table
    planted: list[str]


def draw_messages(plan: Plan, catalogue: Catalogue) -> Messages:
    """Messages of random users about random products, sorted by time."""
    rng, rows = plan.stream("messages"), plan.messages
    user, product = rng.integers(0, plan.users, rows), rng.integers(0, plan.products, rows)
    intents = rng.choice(len(INTENTS), rows, p=list(INTENTS.values()))
    author = Author(plan, Dice(rng))
    names = list(INTENTS)
    texts = [
        author.write(names[intent], catalogue.slots[item], float(catalogue.price[item]))
        for intent, item in zip(intents, product, strict=True)
    ]
    table = pa.table(
        {
            "message_id": row_ids("m", rows),
            "user_id": user_ids(user.tolist()),
            "text": [text for text, _ in texts],
            "intent": [names[intent] for intent in intents],
            "time": timestamps(_times(rng, rows)),
        }
    )
    return Messages(table, [kind for _, kind in texts])


def _times(rng: np.random.Generator, rows: int) -> Indices:
    return START.astype(np.int64) + np.sort(rng.integers(0, DAYS * 86_400, rows))


class Author:
    """Writes messages in the language of a plan."""

    def __init__(self, plan: Plan, dice: Dice) -> None:
        self._language, self._words, self._dice = plan.language, plan.words, dice
        self._doubles = shared_asks(plan.words.messages)

    def write(self, intent: str, slots: dict[str, str], price: float) -> tuple[str, str]:
        """A text with this intent about a product of this price, and the kind of personal data in it, if any."""
        dice, words = self._dice, self._words
        filled = {**slots, **self._facts(price)}
        clauses = [clause.format_map(filled) for clause in self._clauses(intent)]
        text = join(clauses, words.messages.marks, dice)
        text = mistype(text, words.slips, dice) if dice.chance(MISTYPED) else text
        if not dice.chance(PERSONAL):
            return text, ""
        kind, clause = disclosure(self._language, words.personal, dice)
        return append(text, clause, words.messages.marks), kind

    def _clauses(self, intent: str) -> list[str]:
        dice, words = self._dice, self._words.messages
        parts = (
            (words.greetings, GREETING),
            (words.contexts, CONTEXT),
            ((self._ask(intent),), 1.0),
            (words.thanks, THANKS),
        )
        return [dice.pick(phrases) for phrases, share in parts if dice.chance(share)]

    def _ask(self, intent: str) -> str:
        """What is asked: something of this intent, of it and another one, or of any."""
        kind = self._dice.roll()
        if kind < AMBIGUOUS:
            return self._dice.pick(self._doubles[intent])
        if kind < AMBIGUOUS + VAGUE:
            return self._dice.pick(self._words.messages.vague)
        return self._dice.pick(self._words.messages.asks[intent])

    def _facts(self, price: float) -> dict[str, str]:
        """Made-up particulars: order, date, amount, code."""
        dice, words = self._dice, self._words.messages
        return {
            "order": words.order.format(year=2025, digits=dice.digits(8)),
            "date": words.date.format(day=dice.between(1, 28), month=dice.pick(words.months)),
            "amount": words.amount.format(price=price),
            "code": dice.pick(words.codes),
            "year": str(dice.between(2021, 2024)),
            "number": str(dice.between(2, 30)),
            "person": dice.pick(self._words.reviews.people),
        }


def shared_asks(words: MessageWords) -> dict[str, list[str]]:
    """Per intent, what it has in common with another one."""
    return {intent: [ask for pair, asks in words.ambiguous if intent in pair for ask in asks] for intent in INTENTS}


def best_accuracy(words: MessageWords) -> float:
    """The accuracy of a reader who knows all templates and shares: nobody can do better."""
    doubles = shared_asks(words)
    likely = [
        max(INTENTS[intent] / len(doubles[intent]) for intent in pair) for pair, asks in words.ambiguous for _ in asks
    ]
    return (1 - AMBIGUOUS - VAGUE) + AMBIGUOUS * sum(likely) + VAGUE * max(INTENTS.values())


def signals(words: MessageWords) -> dict[str, Any]:
    """How intents and texts were drawn."""
    return {
        "intents": dict(INTENTS),
        "ambiguous": AMBIGUOUS,
        "vague": VAGUE,
        "best_accuracy": round(best_accuracy(words), 3),
        "mistyped": MISTYPED,
        "personal": PERSONAL,
    }
