"""Text to numbers and times, what a column looks like, and which value is the first that does not parse."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mercato_training.schema import Kind
from mercato_training.table import Array

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
"""What counts as no number, category or time in a CSV file, whatever its case."""

OFTEN = 0.5
"""Share of a column's values that look like numbers, from which it is one of numbers, some of them wrong."""

UNPARSED = (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError)
"""What `to_numbers` and `to_times` raise."""

_SIGN = "(?:[$€£¥￥%]|EUR|USD|GBP|CNY|RMB|JPY|CHF|元)?"
_WHOLE = "(?:[0-9]+|[0-9]{1,3}(?:[.,' ][0-9]{3})+)"
_NUMBER = rf"^{_SIGN} ?[+-]?{_SIGN}(?:{_WHOLE}(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)? ?{_SIGN}$"
"""Numbers as people write them; what a value is read as is decided by `to_numbers` alone."""

_TIME = re.compile(
    r"""(\d{4}) (?:([-/.])(\d{1,2}) (?:\2(\d{1,2}))? | 年(\d{1,2})月(\d{1,2})日)
    (?:(?:T|\s+|(?<=日)) (\d{1,2}) (?::(\d\d) (?::(\d\d) (?:[.,](\d{1,6})\d*)?)?)?)?
    \s* (?:Z | ([+-])(\d\d):?(\d\d)?)?""",
    re.VERBOSE | re.ASCII,
)
"""2026-03-31, 2026/3/1, 2026年3月1日, with a time of day, and that with its distance from UTC, or without."""


def is_like_a_number(text: str) -> bool:
    """Whether people would take it for a number, with a currency, blanks or commas in it or not."""
    return re.match(_NUMBER, text.strip()) is not None


def kind_of(values: pa.ChunkedArray) -> Kind:
    """What a column looks like: numbers and times by their type or, in a CSV file, by what most values are."""
    if pa.types.is_temporal(values.type):
        return "time"
    if pa.types.is_floating(values.type) or pa.types.is_integer(values.type) or pa.types.is_boolean(values.type):
        return "number"
    if not _is_text(values.type):
        return "category" if _fails(values, to_numbers) else "number"
    found = pc.drop_null(_trimmed(values))
    like = pc.sum(pc.match_substring_regex(found, _NUMBER)).as_py() or 0
    return "number" if like >= OFTEN * len(found) else "category"


def to_numbers(values: pa.ChunkedArray) -> Array:
    """A column as float64, NaN where it is missing. Raises ValueError or one of pyarrow's errors."""
    if _is_text(values.type):
        values = _trimmed(values)
    # Whole numbers beyond 2^53, such as ids, are rounded.
    return np.array(values.cast(pa.float64(), safe=False).to_numpy(), np.float64)


def to_times(values: pa.ChunkedArray) -> Array:
    """A column as datetime64[us], NaT where it is missing; UTC where values say how far they are from it.

    Raises ValueError or one of pyarrow's errors.
    """
    if _is_text(values.type):
        found = ["" if text is None else text.strip() for text in values.to_pylist()]
        times = [("NaT", 0) if text.lower() in MISSING else _time(text) for text in found]
        utc: Array = np.array([time for time, _ in times], "datetime64[us]")
        utc -= np.array([ahead for _, ahead in times], "timedelta64[m]")
        return utc
    if not pa.types.is_temporal(values.type):
        raise ValueError(f"{values.type} is no time")
    return np.array(values.cast(pa.timestamp("us")).to_numpy(), "datetime64[us]")


def _time(text: str) -> tuple[str, int]:
    """A time in the form that numpy reads, and how many minutes it is ahead of UTC. Raises ValueError."""
    match = _TIME.fullmatch(text)  # numpy itself takes 12 for a year, and "today" for one day or another
    if match is None:
        raise ValueError("no time")
    year, _, month, day, its_month, its_day, hour, minute, second, rest, sign, hours, minutes = match.groups()
    date = f"{year}-{month or its_month:0>2}-{day or its_day or '1':0>2}"
    ahead = int(hours or 0) * 60 + int(minutes or 0)
    time = f"{date}T{hour or '0':0>2}:{minute or '00'}:{second or '00'}.{rest or '0'}"
    return time, -ahead if sign == "-" else ahead


def first_bad(values: pa.ChunkedArray, parse: Callable[[Any], Array]) -> tuple[int, str]:
    """The first value that does not parse, found by halving."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _fails(values.slice(low, middle - low), parse) else (middle, high)
    return low, str(values[low].as_py())


def _trimmed(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Strings without blanks around them, null where they say that something is missing."""
    trimmed = pc.utf8_trim_whitespace(values)
    is_missing = pc.is_in(pc.utf8_lower(trimmed), value_set=pa.array(sorted(MISSING), values.type))
    return pc.if_else(is_missing, pa.scalar(None, values.type), trimmed)


def _fails(values: pa.ChunkedArray, parse: Callable[[Any], Array]) -> bool:
    try:
        parse(values)
    except UNPARSED:
        return True
    return False


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
