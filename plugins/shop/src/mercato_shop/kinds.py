"""The categories and colours of the shop, as keys that hold in every language."""

from collections.abc import Mapping

# Category to the middle of its prices, in US dollars.
PRICES: Mapping[str, float] = {
    "shoes": 79.0,
    "shirts": 34.0,
    "bags": 62.0,
    "mugs": 14.0,
    "lamps": 55.0,
    "watches": 140.0,
    "headphones": 95.0,
    "chairs": 120.0,
    "bottles": 22.0,
    "umbrellas": 27.0,
}
KINDS = tuple(PRICES)

# Colour to red, green and blue, 0 to 255.
COLOURS: Mapping[str, tuple[int, int, int]] = {
    "black": (38, 38, 42),
    "white": (238, 238, 234),
    "grey": (134, 138, 143),
    "red": (196, 44, 48),
    "blue": (52, 110, 200),
    "navy": (32, 46, 92),
    "green": (56, 142, 76),
    "olive": (112, 116, 54),
    "yellow": (236, 196, 52),
    "orange": (230, 124, 40),
    "pink": (232, 140, 170),
    "purple": (118, 70, 152),
    "brown": (116, 76, 48),
    "beige": (214, 194, 160),
    "teal": (30, 132, 136),
}
