"""English words of search queries: what people call colours and categories, and how they ask."""

from mercato_shop.words.shape import QueryWords

QUERIES = QueryWords(
    colours={
        "black": ("ebony", "jet"), "white": ("ivory", "snowy"), "grey": ("slate", "ash"),
        "red": ("crimson", "scarlet"), "blue": ("azure", "cobalt"), "navy": ("midnight", "indigo"),
        "green": ("emerald", "jade"), "olive": ("khaki", "moss"), "yellow": ("lemon", "golden"),
        "orange": ("tangerine", "amber"), "pink": ("rose", "blush"), "purple": ("violet", "lilac"),
        "brown": ("chestnut", "chocolate"), "beige": ("sand", "cream"), "teal": ("turquoise", "aqua"),
    },
    kinds={
        "shoes": ("footwear",), "shirts": ("tops",), "bags": ("luggage",), "mugs": ("cups",),
        "lamps": ("lighting",), "watches": ("timepieces",), "headphones": ("earphones",), "chairs": ("seats",),
        "bottles": ("flasks",), "umbrellas": ("rain cover",),
    },
    patterns={
        "item+colour": ("{colour} {item}", "{item} in {colour}", "looking for {colour} {item}"),
        "kind+colour": ("{colour} {kind}", "{kind} in {colour}", "show me {colour} {kind}"),
        "item+material": ("{material} {item}", "{item} made of {material}", "{item} in {material}"),
        "item": ("{item}", "I need {item}", "{item} for a friend"),
        "alike+material": ("the same in {material}", "like this, made of {material}", "{material}"),
        "alike+item": ("{item} in this colour", "like this, but {item}", "{item}"),
    },
)  # fmt: skip
