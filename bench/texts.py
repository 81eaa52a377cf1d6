"""The texts of the encoder's benchmark: shop titles, queries and short descriptions, the same in every run."""

import random

_COLOURS = ("red", "navy", "charcoal", "ivory", "forest green", "rose gold", "matt black", "sand")
_KINDS = ("running shoes", "rain jacket", "stainless steel kettle", "desk lamp", "yoga mat", "hiking backpack",
          "wireless earbuds", "cast iron pan", "office chair", "phone case")  # fmt: skip
_TRAITS = ("waterproof", "lightweight", "for women", "for men", "for wide feet", "with a two-year warranty",
           "made of recycled polyester", "size 42", "pack of two", "easy to clean", "for small flats",
           "with quiet motor", "suitable for travel", "in a gift box")  # fmt: skip
COUNT = 96
SEED = 7


def shop_texts() -> list[str]:
    """96 texts in random order: a third are queries, a third titles, a third descriptions of up to 60 words."""
    chance = random.Random(SEED)  # noqa: S311 - reproducible, not secret
    return [_text(chance, traits=chance.choice((0, 3, 12))) for _ in range(COUNT)]


def _text(chance: random.Random, traits: int) -> str:
    name = f"{chance.choice(_COLOURS)} {chance.choice(_KINDS)}"
    return ", ".join([name, *chance.sample(_TRAITS, traits)])
