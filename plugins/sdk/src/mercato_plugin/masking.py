"""Masking of personal data in texts: addresses and numbers that point to a person become fixed marks.

The marks are ASCII words in angle brackets. A word analyzer takes the word inside as one token of its own, a character
analyzer sees letters that stand apart from the text around them, and a reader sees what was there.
"""

import re
import string
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

EMAIL = "<email>"
PHONE = "<phone>"
IDENTITY = "<id>"
CARD = "<card>"
MARKS = (EMAIL, PHONE, IDENTITY, CARD)

Found = tuple[int, int, str]

_BLANKS = (0x0009, 0x00A0, 0x2007, 0x202F, 0x3000, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF)  # nobody sees the last five
_DASHES = (*range(0x2010, 0x2016), 0x2212, 0xFE63)
_DOTS = (0x00B7, 0x2022, 0x2027, 0x30FB)  # in the middle of the line: they part a number as dashes do
_PLAIN: dict[int, int | str] = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys(_BLANKS, " "),
    **dict.fromkeys(_DASHES, "-"),
}
_PLAIN_NUMBERS = {**_PLAIN, **dict.fromkeys(_DOTS, "-"), 0x000D: "\n"}

_HINT = re.compile("[0-9@０-９＠]")
# Alphabets whose words stand between blanks; Han before an address is mostly the sentence, and a name has few signs.
_NAME_SIGNS = (
    string.ascii_letters
    + string.digits
    + "._%+'-"
    + "".join(map(chr, (*range(0x00C0, 0x0250), *range(0x0370, 0x0530))))
)
_HAN_NAME = 4
_DOMAIN = re.compile(
    r"(?:[\w-]++\.)+(?:[Xx][Nn]--[A-Za-z0-9-]+|[A-Za-z]{2,}|[\u0430-\u044f]{2,}"
    "|公司|中国|中國|网络|商城|集团|在线|网址|手机|香港|台湾|한국)"
)
# Beside a blank the sign may as well mean "at" a shop: only the hosts of mailboxes count there.
_MAILBOX = re.compile(
    r" ?(?:(?:vip\.)?(?:qq|163|126|139|188|189|foxmail|sina|sohu|yeah|aliyun|tom|21cn)"
    r"|gmail|googlemail|outlook|hotmail|live|msn|yahoo|icloud|me|aol|gmx|proton|protonmail|mail|web|yandex)"
    r"\.(?:com(?:\.cn)?|net|cn|de|me|ru|co\.uk|fr)(?![A-Za-z-])",
    re.IGNORECASE,
)

_GROUP = re.compile("[0-9]+")
_WIDE = re.compile("[ .()\n-]{2,3}")
_POINT = re.compile("[.][0-9]")
_OPENING = re.compile(r"\+?\(?\Z|\(\+\Z")
_LISTED = re.compile("[ .()\n-]{0,3}[1-9][0-9]?[.]")
_ODD_GAPS = re.escape("".join(map(chr, (*_BLANKS, *_DASHES, *_DOTS, *map(ord, "．（）－")))))
# Digits with up to three signs between two of them, nine digits or more: what holds every number.
_RUN = re.compile(f"[0-9０-９](?:[ .()\r\n{_ODD_GAPS}-]{{0,3}}+[0-9０-９]){{8,}}+[XxＸｘ]?")

# A number in its plain shape: groups of digits with one sign between two of them.
_SURE = r"(?:(?:00)?86[-. )]?)? 1[3-9]\d (?:\d{8} | -\d{4}-\d{4})"
_SPELLED = r"1(?P<s>[- ])[3-9](?:(?P=s)\d){9}"
_PHONE = rf"""(?:{_SURE} | {_SPELLED}
    | (?:(?:00)?86[-. )]?)? 1[3-9]\d (?:[-. ]\d{{8}} | (?P<m>[-. ])\d{{4}}(?P=m)\d{{4}} | \d{{4}}[-. ]\d{{4}})
    | 1[3-9]\d [- ] \d{{4}} \n \d{{4}}                              # broken where the line is full
    | 00[1-9]\d{{0,2}} [-. )] \d[-. )\d]{{7,18}}                    # 0044 20 7946 0958
    | 0[1-9]\d{{1,2}} [-. )] (?:\d{{7,8}} | \d{{3,4}}[- ]\d{{4}})       # 010-12345678, 020 7946 0958
    | 0[1-9]\d{{3}} [- )] (?:\d{{6}} | \d{{3}}[- ]\d{{3}})             # 07700 900123
    | 0[1-9]\d{{9}}                                              # 01012345678; twelve digits are a product's code
    # (415) 555-2671: codes have no 9 in the middle, as prices have, end with 00 only when free, and never with 11
    | (?:1[-. )])? (?:800 | [2-9](?:0[1-9] | 1[02-9] | [2-8]\d)) [-.)] [2-9](?!11)\d\d [-. ] \d{{4}}
    )"""
_INTERNATIONAL = r"(?:1\d{10} | 86\d{10,11} | (?!1|86)[2-9]\d{8,14})"
_IDENTITY = r"""(?:[1-9]\d{5} [-. ]? (?:18|19|20)\d\d [-. ]? (?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]) [-. ]?
    \d{3}[0-9Xx])"""
_CARD = r"""(?:(?=[3-6]|2[2-7]|8[12]|9792)  # the ranges that cards have: neither dates nor years
    (?:\d{13,19} | \d{4}(?P<c>[-. ])\d{4}(?P=c)\d{4}(?P=c)\d{1,4}(?:(?P=c)\d{1,3})?
    | \d{4}(?P<d>[-. ])\d{6}(?P=d)\d{4,5} | \d{6}[-. ]\d{10,13}))"""


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.VERBOSE | re.ASCII)


# Where a number may start: few places, so that what follows there may be looked at with care.
_START = _compiled(
    rf"(?<!\d)(?: (?<=\+)[1-9] | (?<=\+\()[1-9] | (?:{_PHONE}|{_CARD})(?!\d) | {_IDENTITY}(?:(?<=[Xx])|(?!\d)))"
)
_SHAPE = _compiled(f"(?P<phone>{_PHONE}) | (?P<identity>{_IDENTITY}) | (?P<card>{_CARD})")
_IS_SURE, _IS_SPELLED, _IS_CARD = _compiled(_SURE), _compiled(_SPELLED), _compiled(_CARD)
_IS_INTERNATIONAL = _compiled(_INTERNATIONAL)

_FEWEST_DIGITS, _MOST_DIGITS = 9, 19
_GROUPS_ABROAD, _GROUPS = 8, 11
"""Groups of digits in one number, at most: of one with `+` or `00`, and of others."""

_IDENTITY_WEIGHTS = tuple(2 ** (17 - place) % 11 for place in range(17))
_IDENTITY_SIGNS = "10X98765432"
_EAN = 13
_WITHOUT_GAPS = str.maketrans("", "", " .()\n-")
_DOUBLED = str.maketrans("0123456789", "0246813579")


def masked(text: str) -> str:
    """The text with a mark in place of each e-mail address, phone, mainland id and card number.

    Phone numbers are international ones with `+` or `00`, mainland mobiles with or without 86, mainland landlines and
    British numbers with their area code, and North American ones with separators. An id number has 18 signs, a date of
    birth and the right last sign; a card number has 13 to 19 digits, starts as cards do and passes the Luhn check.
    Digits may be full-width and parted by blanks, dashes, full stops or brackets. Other numbers stay, among them
    decimals: what follows a decimal point, and what a decimal point follows unless the number stands for itself, as
    mobiles without blanks, id and card numbers do.

    The time is linear in the length, and `masked(masked(text)) == masked(text)`.
    """
    return _without_numbers(_without_addresses(text)) if _HINT.search(text) else text


def _without_addresses(text: str) -> str:
    if "@" not in text and "＠" not in text:
        return text
    plain = text.translate(_PLAIN)
    found: list[Found] = []
    start, at = 0, plain.find("@")
    while at >= 0:
        address = _address(plain, start, at)
        start = address[1] if address else at + 1
        if address:
            found.append((*address, EMAIL))
        at = plain.find("@", start)
    return _replaced(text, found)


def _address(plain: str, start: int, at: int) -> tuple[int, int] | None:
    """Where the address around the `@` starts and ends."""
    if (domain := _DOMAIN.match(plain, at + 1)) and (first := _local(plain, start, at)) < at:
        return first, _last_domain(plain, domain.end())
    if not (mailbox := _MAILBOX.match(plain, at + 1)):
        return None
    blank = at - plain.startswith(" ", at - 1) if at > start else at
    first = _name(plain, start, blank)
    return (first, mailbox.end()) if first < blank else None


def _last_domain(plain: str, end: int) -> int:
    """The end of a chain of addresses, `a@b.com.c@d.com`, where one's domain holds the next one's name."""
    while plain.startswith("@", end) and (domain := _DOMAIN.match(plain, end + 1)):
        end = domain.end()
    return end


def _local(plain: str, start: int, at: int) -> int:
    """Where the part before the `@` starts: a word of an alphabet, or a short name in Han."""
    first = _name(plain, start, at)
    if first == at:
        while first > max(start, at - _HAN_NAME) and "\u4e00" <= plain[first - 1] <= "\u9fff":
            first -= 1
    return first


def _name(plain: str, start: int, end: int) -> int:
    return start + len(plain[start:end].rstrip(_NAME_SIGNS))


class _Run(NamedTuple):
    """Digits that are joined, from two signs before the first one on."""

    plain: str
    signs: str
    """In plain shape: one sign for all between two groups."""
    places: Sequence[int]
    """Where each of the signs, and their end, is in `plain`."""


def _narrowed(plain: str, first: int) -> _Run:
    """The run whose first digit is at `first`."""
    if not _WIDE.search(plain, first):
        return _Run(plain, plain, range(len(plain) + 1))
    parts: list[str] = []
    places: list[int] = []
    last = 0
    for gap in _WIDE.finditer(plain, first):
        parts += [plain[last : gap.start()], _sign(gap.group())]
        places += range(last, gap.start() + 1)
        last = gap.end()
    return _Run(plain, "".join(parts) + plain[last:], [*places, *range(last, len(plain) + 1)])


def _without_numbers(text: str) -> str:
    found: list[Found] = []
    for run in _RUN.finditer(text):
        offset = max(0, run.start() - len("(+"))
        first = run.start() - offset
        numbers = _numbers(_narrowed(text[offset : run.end()].translate(_PLAIN_NUMBERS), first), first)
        found += ((offset + start, offset + end, mark) for start, end, mark in numbers)
    return _replaced(text, found) if found else text


def _replaced(text: str, found: Sequence[Found]) -> str:
    parts, last = [], 0
    for start, end, mark in found:
        parts += [text[last:start], mark]
        last = end
    return "".join(parts) + text[last:]


def _numbers(run: _Run, floor: int) -> Iterator[Found]:
    """The numbers in a run of digits that starts at `floor`."""
    at = floor
    while match := _START.search(run.signs, at):
        start = run.places[match.start()]
        before = _opening(run.plain, start)
        end, mark = _number_at(run, match.start(), floor, "+" in before)
        at = end if mark else match.start() + 1
        if mark:
            floor = run.places[end]
            is_whole = mark == PHONE and ("(" not in before or ")" in run.plain[start:floor])
            yield start - len(before) * is_whole, floor, mark


def _opening(plain: str, start: int) -> str:
    """The plus sign and the bracket before a number."""
    if not plain.endswith(("+", "("), 0, start):
        return ""
    opening = _OPENING.search(plain, max(0, start - len("(+")), start)
    return opening.group() if opening else ""


def _sign(gap: str) -> str:
    """The one sign that stands for all between two groups."""
    return next((sign for sign in "\n-)." if sign in gap), gap[:1])


def _number_at(run: _Run, start: int, floor: int, has_plus: bool) -> tuple[int, str]:
    """The end of the longest number that starts here, and its mark: none where there is no number."""
    needs_sure = _is_joined(run, start, floor)
    if needs_sure and not _LISTED.fullmatch(run.plain, floor, run.places[start]):
        return start, ""
    for end in _ends(run.signs, start, _GROUPS_ABROAD if has_plus or run.signs.startswith("00", start) else _GROUPS):
        shape = run.signs[start:end]
        if mark := _mark(shape, has_plus):
            is_sure = mark != PHONE or _IS_SURE.fullmatch(shape)
            if is_sure or not (needs_sure or _POINT.match(run.plain, run.places[end])):
                return end, mark
    return start, ""


def _is_joined(run: _Run, start: int, floor: int) -> bool:
    """Whether the number goes on from a digit before it: behind a decimal point, or as one more of single digits."""
    plain, place = run.plain, run.places[start]
    if place - 2 < floor or plain[place - 2] not in string.digits:
        return False
    return plain[place - 1] == "." or _IS_SPELLED.match(run.signs, start) is not None


def _ends(signs: str, start: int, most: int) -> Iterator[int]:
    """Where a number that starts here may end, the farthest first."""
    ends, digits = [], 0
    for group in islice(_GROUP.finditer(signs, start), most):
        digits += group.end() - group.start()
        if digits > _MOST_DIGITS:
            break
        if digits >= _FEWEST_DIGITS:
            ends.append(group.end())
        if digits == len(_IDENTITY_WEIGHTS) and signs[group.end() : group.end() + 1] in ("X", "x"):
            ends.append(group.end() + 1)
    return reversed(ends)


def _mark(shape: str, has_plus: bool) -> str:
    """What the number in plain shape is, or nothing."""
    match = _SHAPE.fullmatch(shape)
    kind = match.lastgroup if match else None
    if kind == "phone" or (has_plus and "\n" not in shape and _IS_INTERNATIONAL.fullmatch(_signs(shape))):
        return PHONE
    if kind == "identity" and _is_identity(_signs(shape).upper()):
        return IDENTITY
    return CARD if kind and _IS_CARD.fullmatch(shape) and _is_card(_signs(shape)) else ""


def _signs(shape: str) -> str:
    """The digits, and X where it is the last one."""
    return shape.translate(_WITHOUT_GAPS)


def _is_identity(signs: str) -> bool:
    """The check of GB 11643: the last sign follows from the first 17."""
    total = sum(weight * int(sign) for weight, sign in zip(_IDENTITY_WEIGHTS, signs, strict=False))
    return _IDENTITY_SIGNS[total % 11] == signs[-1]


def _is_card(signs: str) -> bool:
    """The Luhn check of ISO/IEC 7812: every second digit from the right counts twice, its digits added up.

    Thirteen digits are the code of a product, unless they start as the oldest cards do.
    """
    if len(signs) == _EAN and signs[0] != "4":
        return False
    added = signs[-1::-2] + signs[-2::-2].translate(_DOUBLED)
    return (sum(added.encode()) - ord("0") * len(added)) % 10 == 0
