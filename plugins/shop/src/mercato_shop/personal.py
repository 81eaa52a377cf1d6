"""Personal data that no person has: reserved addresses and numbers, with check digits that are right."""

from mercato_shop.words.shape import PersonalWords
from mercato_shop.writing import Dice

KINDS = {"en": ("email", "phone", "card"), "zh": ("email", "phone", "identity", "card")}

# RFC 2606 keeps these domains free.
DOMAINS = ("example.com", "example.org", "example.net")
# 555-0100 to 555-0199 in North America, and 07700 900000 to 900999 in Britain, are kept for fiction.
AMERICAN = ("+1 {area}-555-01{last}", "({area}) 555-01{last}", "{area}-555-01{last}")
AREAS = ("202", "212", "303", "312", "415", "503", "617", "713")
BRITISH = ("+44 7700 900{last}", "07700 900{last}")
# Segments of Chinese mobile numbers that, to our knowledge, no carrier has been given.
SEGMENTS = ("154", "163", "168", "169", "179")
# The beginnings of the card networks' published test numbers.
CARDS = ("411111111111", "424242424242", "555555555555", "510510510510", "620000000000")
# A province, and a county code that no county has.
COUNTIES = ("119900", "319900", "339900", "449900", "519900")

IDENTITY_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
IDENTITY_DIGITS = "10X98765432"


def disclosure(language: str, words: PersonalWords, dice: Dice) -> tuple[str, str]:
    """A kind of personal data, and a clause that gives some away."""
    kind = dice.pick(KINDS[language])
    return kind, dice.pick(words.carriers[kind]).format(value=invent(kind, language, words, dice))


def invent(kind: str, language: str, words: PersonalWords, dice: Dice) -> str:
    """A value of the kind: `email`, `phone`, `card`, or `identity` (the Chinese identity number)."""
    if kind == "email":
        return _email(words, dice)
    if kind == "phone":
        return _phone_zh(dice) if language == "zh" else _phone_en(dice)
    return _identity(dice) if kind == "identity" else _card(dice)


def luhn_digit(digits: str) -> str:
    """The check digit of a card number without it."""
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits), start=1)]
    return str(-sum(value - 9 * (value > 9) for value in doubled) % 10)


def identity_digit(digits: str) -> str:
    """The check digit of a Chinese identity number's first 17 digits (ISO 7064, MOD 11-2)."""
    total = sum(weight * int(digit) for weight, digit in zip(IDENTITY_WEIGHTS, digits, strict=True))
    return IDENTITY_DIGITS[total % 11]


def _email(words: PersonalWords, dice: Dice) -> str:
    dot, number = dice.pick((".", "_", "")), dice.pick(("", "", str(dice.between(1, 99))))
    return f"{dice.pick(words.first)}{dot}{dice.pick(words.last)}{number}@{dice.pick(DOMAINS)}"


def _phone_en(dice: Dice) -> str:
    if dice.chance(0.3):
        return dice.pick(BRITISH).format(last=dice.digits(3))
    return dice.pick(AMERICAN).format(area=dice.pick(AREAS), last=dice.digits(2))


def _phone_zh(dice: Dice) -> str:
    return dice.pick(SEGMENTS) + dice.digits(8)


def _card(dice: Dice) -> str:
    digits = dice.pick(CARDS) + dice.digits(3)
    number = digits + luhn_digit(digits)
    return " ".join(number[at : at + 4] for at in range(0, 16, 4)) if dice.chance(0.5) else number


def _identity(dice: Dice) -> str:
    born = f"{dice.between(1955, 2005)}{dice.between(1, 12):02d}{dice.between(1, 28):02d}"
    digits = dice.pick(COUNTIES) + born + dice.digits(3)
    return digits + identity_digit(digits)
