"""Masking of personal data in texts: addresses and numbers that point to a person become fixed marks.

The marks are ASCII words in angle brackets. A word analyzer takes the word inside as one token of its own, a character
analyzer sees letters that stand apart from the text around them, and a reader sees what was there.
"""

import re
from collections.abc import Iterator, Sequence

EMAIL = "<email>"
PHONE = "<phone>"
IDENTITY = "<id>"
CARD = "<card>"
MARKS = (EMAIL, PHONE, IDENTITY, CARD)

Span = tuple[int, int]
Found = tuple[int, int, str]

_HINT = re.compile("[0-9@０-９＠]")
# Alphabets whose words stand between blanks; Han before an address is mostly the sentence, and a name has few signs.
_LOCAL = "A-Za-z0-9._%+'\u00c0-\u024f\u0370-\u052f-"
_NAME = re.compile(f"[{_LOCAL}]+")
_HAN_NAME = 4
_LABEL = "[A-Za-z0-9\u00c0-\u024f\u0370-\u052f\u4e00-\u9fff-]++"
_DOMAIN = re.compile(
    rf"(?:{_LABEL}\.)+(?:[Xx][Nn]--[A-Za-z0-9-]+|[A-Za-z]{{2,}}|公司|中国|网络|商城|集团|在线|网址|手机|香港|台湾)"
)
_GROUP = re.compile("[0-9]+")
_DECIMALS = re.compile("[0-9][.][0-9]")
_GAP = re.compile("[ .()-]{1,3}")
_OPENING = re.compile(r"\+?\(?\Z|\(\+\Z")

# A number in its plain shape: groups of digits with one sign between two of them.
_PHONE = re.compile(
    r"""(?:(?:00)?86[-. )]?)? 1[3-9]\d (?:\d{8} | [-. ]\d{8} | ([-. ])\d{4}\1\d{4} | \d{4}[-. ]\d{4})  # 138-...
    | 00[1-9]\d{0,2} [-. )] \d[-. )\d]{7,18}                      # 0044 20 7946 0958
    | 0[1-9]\d{1,2} [-. )] (?:\d{7,8} | \d{3,4}[- ]\d{4})         # 010-12345678
    | 0(?:10|2\d)\d{8} | 0[3-9]\d\d\d{7}                         # 01012345678; twelve digits are a product's code
    | (?:1[-. )])? [2-9]\d\d[-.)][2-9]\d\d[-. ]\d{4}              # (415) 555-2671
    """,
    re.VERBOSE,
)
_INTERNATIONAL = re.compile(r"1\d{10} | 86\d{10,11} | (?!1|86)[2-9]\d{8,14}", re.VERBOSE)
_IDENTITY = re.compile(
    r"[1-9]\d{5} [-. ]? (?:18|19|20)\d\d [-. ]? (?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]) [-. ]? \d{3}[0-9X]", re.VERBOSE
)
_CARD = re.compile(
    r"""(?=[3-6]|2[2-7]|8[12]|9792)  # the ranges that cards have: neither dates nor years
    (?:\d{13,19} | \d{4}([-. ])\d{4}\1\d{4}\1\d{1,4}(?:\1\d{1,3})? | \d{4}([-. ])\d{6}\2\d{4,5} | \d{6}[-. ]\d{10,13})
    """,
    re.VERBOSE,
)
_FEWEST_DIGITS, _MOST_DIGITS = 9, 19
_GROUPS_ABROAD, _GROUPS = 8, 5
"""Groups of digits in one number, at most: of one with `+` or `00`, and of others."""

_IDENTITY_WEIGHTS = tuple(2 ** (17 - place) % 11 for place in range(17))
_IDENTITY_SIGNS = "10X98765432"

_PLAIN: dict[int, int | str] = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys((0x0009, 0x00A0, 0x2007, 0x202F, 0x3000), " "),
    **dict.fromkeys((0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF), " "),  # nobody sees them
    **dict.fromkeys((*range(0x2010, 0x2016), 0x2212, 0xFE63), "-"),
}


def masked(text: str) -> str:
    """The text with a mark in place of each e-mail address, phone, mainland id and card number.

    Phone numbers are international ones with `+` or `00`, mainland mobiles with or without 86, mainland landlines with
    their area code, and North American ones with separators. An id number has 18 signs, a date of birth and the right
    last sign; a card number has 13 to 19 digits, starts as cards do and passes the Luhn check. Digits may be full-width
    and parted by blanks, dashes, full stops or brackets. Other numbers stay.

    The time is linear in the length, and `masked(masked(text)) == masked(text)`.
    """
    return _without_numbers(_without_addresses(text)) if _HINT.search(text) else text


def _without_addresses(text: str) -> str:
    plain = _plain(text)
    found: list[Found] = []
    start, at = 0, plain.find("@")
    while at >= 0:
        domain = _DOMAIN.match(plain, at + 1)
        local = _local(plain, start, at) if domain else 0
        start = at + 1
        if domain and local:
            start = domain.end()
            found.append((at - local, start, EMAIL))
        at = plain.find("@", start)
    return _replaced(text, found)


def _local(plain: str, start: int, at: int) -> int:
    """How many signs before the `@` belong to the address: a word of an alphabet, or a short name in Han."""
    first = at
    while first > start and _NAME.fullmatch(plain, first - 1, first):
        first -= 1
    if first == at:
        while first > max(start, at - _HAN_NAME) and "\u4e00" <= plain[first - 1] <= "\u9fff":
            first -= 1
    return at - first


def _without_numbers(text: str) -> str:
    plain = _plain(text)
    groups = [match.span() for match in _GROUP.finditer(plain)]
    if sum(end - start for start, end in groups) < _FEWEST_DIGITS:
        return text
    found: list[Found] = []
    for place, (start, _) in enumerate(groups):
        if not (found and start < found[-1][1]) and (number := _number_at(plain, groups, place)):
            found.append(number)
    return _replaced(text, found)


def _plain(text: str) -> str:
    """The text sign by sign, full-width ones and the kinds of blanks and dashes as ASCII."""
    return text if text.isascii() and "\t" not in text else text.translate(_PLAIN)


def _replaced(text: str, found: Sequence[Found]) -> str:
    parts, last = [], 0
    for start, end, mark in found:
        parts += [text[last:start], mark]
        last = end
    return "".join(parts) + text[last:]


def _number_at(plain: str, groups: Sequence[Span], place: int) -> Found | None:
    """The longest number that starts with this group of digits."""
    start = groups[place][0]
    if _in_decimals(plain, start - 1):
        return None
    opening = _OPENING.search(plain, max(0, start - 2), start)
    before = opening.group() if opening else ""
    most = _GROUPS_ABROAD if "+" in before or plain.startswith("00", start) else _GROUPS
    for shape, end in reversed(list(_shapes(plain, groups[place : place + most]))):
        if mark := None if _in_decimals(plain, end) else _mark(shape, "+" in before):
            is_whole = mark == PHONE and ("(" not in before or ")" in plain[start:end])
            return start - len(before) * is_whole, end, mark
    return None


def _shapes(plain: str, groups: Sequence[Span]) -> Iterator[tuple[str, int]]:
    """What the first of these groups may be together with those that follow, in plain shape, with the end of each."""
    shape, digits, last = "", 0, groups[0][0]
    for start, end in groups:
        gap = plain[last:start]
        digits += end - start
        if digits > _MOST_DIGITS or (gap and not _GAP.fullmatch(gap)):
            return
        shape, last = shape + _sign(gap) + plain[start:end], end
        if digits == len(_IDENTITY_WEIGHTS) and plain[end : end + 1] in ("X", "x"):
            yield shape + "X", end + 1
        elif digits >= _FEWEST_DIGITS:
            yield shape, end


def _sign(gap: str) -> str:
    """The one sign that stands for all between two groups."""
    return next((sign for sign in "-)." if sign in gap), gap[:1])


def _in_decimals(plain: str, point: int) -> bool:
    """Whether the place is a decimal point: what it parts is a number of another kind."""
    return point > 0 and _DECIMALS.match(plain, point - 1) is not None


def _mark(shape: str, has_plus: bool) -> str | None:
    """What the number in plain shape is."""
    if _PHONE.fullmatch(shape) or (has_plus and _INTERNATIONAL.fullmatch(_signs(shape))):
        return PHONE
    if _IDENTITY.fullmatch(shape) and _is_identity(_signs(shape)):
        return IDENTITY
    return CARD if _CARD.fullmatch(shape) and _is_card(_signs(shape)) else None


def _signs(shape: str) -> str:
    """The digits, and X where it is the last one."""
    return "".join(sign for sign in shape if sign.isalnum())


def _is_identity(signs: str) -> bool:
    """The check of GB 11643: the last sign follows from the first 17."""
    total = sum(weight * int(sign) for weight, sign in zip(_IDENTITY_WEIGHTS, signs, strict=False))
    return _IDENTITY_SIGNS[total % 11] == signs[-1]


def _is_card(signs: str) -> bool:
    """The Luhn check of ISO/IEC 7812: every second digit from the right counts twice, its digits added up."""
    doubled = sum(sum(divmod(2 * int(sign), 10)) for sign in signs[-2::-2])
    return (doubled + sum(map(int, signs[-1::-2]))) % 10 == 0
