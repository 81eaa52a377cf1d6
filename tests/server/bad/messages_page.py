"""The sections of docs/reference/bad-input.md that are made of rows: `python -m tests.server.bad.messages_page`."""

import re
import sys
from collections.abc import Iterable

from grpc import StatusCode
from tests.server.bad import messages, messages_names, messages_tensors
from tests.server.bad.messages import Row

ROWS = [*messages.ROWS, *messages_tensors.ROWS, *messages_names.ROWS]
HEAD = "| number | input | requests | what the caller gets |\n|---|---|---|---|"
SECTIONS = {
    "Messages": range(27, 39),
    "Tensors": range(39, 70),
    "Names, parameters and life cycle": range(70, 81),
}
TITLES = {
    27: "groups nested 99, 101, 10 000 and 100 000 deep",
    28: "10^6 empty inputs, outputs and models",
    29: "10^6 empty items, sizes and row lengths of one tensor",
    30: "10^5 and more parameters, of one name or none",
    31: "megabytes of unknown fields",
    32: "known fields of another wire type; wire types and field numbers that do not exist",
    33: "groups: known fields as groups, without begin, without end, with the end of another",
    34: "names, ids and texts of the message that are not UTF-8",
    35: "one field up to 100 000 times; the last value counts",
    36: "`Any` in `Any`",
    37: "element types that do not exist",
    38: "numbers and lengths of more than 64 bits, lengths past the end, truncated messages, noise, nothing",
    39: "a missing input, an input without a tensor",
    40: "inputs that the model does not have",
    41: "an input given more than once",
    42: "an output asked for more than once",
    43: "outputs that the model does not have",
    44: "names with NUL, newline, escapes, right-to-left override, homoglyph, 1 MiB",
    45: "a shape of another rank",
    46: "shape -1, which numpy would fit to the data",
    47: "shape [-1, 2]",
    48: "a size of 0, with data and without",
    49: "a size of 0 beside 2^62",
    50: "sizes whose product is more than 64 bits",
    51: "sizes 2^63-1 and -2^63",
    52: "rank 65 and 1000",
    53: "data a byte, a row or megabytes too short or too long",
    54: "data and items at once, or the wrong one of them",
    55: "row lengths that do not fit the shape or the data, or that nobody asked for",
    56: "every element type where another one is expected",
    57: "FP16 and BF16 with too many bytes, and as they should be",
    58: "bool bytes 2 and 255",
    59: "NaN, infinities, denormals, minus zero: refused where `finite`, kept bit by bit elsewhere",
    60: "8-bit values in wider data",
    61: "texts that are not UTF-8 or hold NUL",
    62: "more or fewer items than the shape says, unknown labels",
    63: "batches of 0, of one row too many, of two sizes",
    64: "ids and values outside the bounds that model or graph declare, or outside a table",
    65: "rows, shared values and texts longer than the model takes",
    66: "big-endian data: nobody can tell, it is another number",
    67: "top-k of 0, -1, 101, 2^31 and of another type",
    68: "data at an odd offset of the message",
    69: "a plugin that writes into a request's read-only array",
    70: "names of models that do not exist: paths, dots, case, spaces, control characters, 10 KB, homoglyphs",
    71: "versions and labels that do not exist: 0, -1, 2^63, `01`, `1e3`, `latest `",
    72: "parameters: unknown, reserved, of another type, out of bounds, without a value, 30 000 of them",
    73: "request ids with newline, escapes, NUL, 1 MiB",
    74: "priorities 10, 2^32-1, 2^64-1",
    75: "a model that failed; a server that drains; a version that unloads or is swapped for another",
    76: "a plugin that is loaded twice at once; a storm of loads and unloads",
    77: "methods of administration on the data port, predictions on the admin listener",
    78: "methods of administration on the data port with the certificate of a data user",
    79: "cancel at once; while the model runs; after the answer",
    80: "deadlines of 1 µs and 1 ms, passed, none; `timeout` 0, negative, 2^63-1 s, nanoseconds out of range",
}
# What is about a course of events: requests tried, and what came of them.
EVENTS = {
    36: ("-", "no request has a field of that type"),
    75: ("+ drain, unload, swap", "DRAINING; answered"),
    76: ("2 + 12", "the second load finds nothing to do; answered, MODEL_NOT_READY or DRAINING"),
    77: ("7", "UNIMPLEMENTED"),
    78: ("10", "UNIMPLEMENTED"),
    79: ("1401", "CANCELLED, or answered"),
    80: ("+ 101", "DEADLINE_EXCEEDED without details, DEADLINE_UNREACHABLE, or answered"),
}


def section(name: str) -> str:
    """The table of one section."""
    lines = [line(number) for number in SECTIONS[name] if number in TITLES]
    return "\n".join([HEAD, *lines])


def line(number: int) -> str:
    """One number: what was sent, how often, and every outcome of its rows."""
    rows = [row for row in ROWS if row.number == number]
    counts, outcomes = ([str(len(rows))] if rows else []), outcomes_of(rows)
    if number in EVENTS:
        tried, came = EVENTS[number]
        counts, outcomes = [*counts, tried], [*outcomes, came]
    return f"| {number} | {TITLES[number]} | {' '.join(counts)} | {'; '.join(outcomes)} |"


def outcomes_of(rows: Iterable[Row]) -> list[str]:
    """Each different outcome once, in the order of the rows."""
    return list(dict.fromkeys(map(outcome, rows)))


def outcome(row: Row) -> str:
    """`answered`, or the reason with the kind of field at fault."""
    if row.code is StatusCode.OK:
        return "answered"
    fields = sorted({re.sub(r"(inputs|parameters)\.\w+", r"\1.NAME", field) for field in row.fields})
    return row.reason + (f" on {' and '.join(f'`{field}`' for field in fields)}" if fields else "")


if __name__ == "__main__":
    for title in SECTIONS:
        sys.stdout.write(f"## {title}\n\n{section(title)}\n\n")
