"""The section `Wire` of docs/reference/bad-input.md, made of rows: `python -m tests.server.bad.wire_page` prints it."""

from grpc import StatusCode
from tests.server.bad import wire_rows_connections, wire_rows_headers, wire_rows_streams
from tests.server.bad.wire_rows import MESSAGES, Outcome, Row

ROWS = [*MESSAGES, *wire_rows_connections.ROWS, *wire_rows_headers.ROWS, *wire_rows_streams.ROWS]
# The reasons in the details of our own answers.
REASONS = {StatusCode.INVALID_ARGUMENT: "INVALID_REQUEST", StatusCode.NOT_FOUND: "MODEL_NOT_FOUND"}
TITLES = {
    1: "an empty message",
    2: "five bytes 0xff",
    3: "a truncated field",
    4: "a length beyond the end of the call, a torn prefix, a caller who goes away in the middle",
    5: "a length of 2^32-1, or one above the limit",
    6: "a compressed message without an encoding, an unknown flag",
    7: "`grpc-encoding: br`",
    8: "gzip and deflate that grow a thousandfold, up to the limit on messages and above it",
    9: "gzip with garbage or a second member behind it",
    10: "gzip that is noise, truncated, or has a wrong checksum",
    11: "gzip that nobody announced, gzip in gzip, gzip as a tensor's bytes",
    12: "two messages on a unary call: the first one counts",
    13: "a half-close without a message",
    14: "a MiB in frames of one byte, 100 000 empty frames",
    15: "calls, header blocks and prefaces that stall while others are served; a preface byte by byte",
    16: "1000 streams opened and reset, 1200 at once, streams and connections cut in the middle",
    17: "pings: three, 10 000",
    18: "SETTINGS: 20 000, and invalid ones; windows of 0, of too much; callers who never read",
    19: "CONTINUATION frames and header tables without end, broken HPACK",
    20: "100 connections where 40 file descriptors are left",
    21: "HTTP/1.1, an upgrade, zeros, a broken preface, a frame of 16 MiB",
    22: "a TLS hello on the plain port, plain text on the TLS port",
    23: "another content type, HTTP method or `te`; pseudo headers missing or unknown",
    24: "paths that are no method: case, slashes, percent, NUL, not UTF-8, 8 KB",
    25: "`grpc-timeout` of `0n`, `99999999H`, and six that cannot be read",
    26: "metadata of 8 and 17 KB, 1000 keys, bad base64, bad keys, control characters, keys twice, bad request ids",
}
# What is about a course of events has a test of its own.
EVENTS = {20: ("+ 100", "served as soon as descriptors are free"), 22: ("+ TLS", "")}


def section() -> str:
    """The table."""
    head = "| number | input | requests | what the caller gets |\n|---|---|---|---|"
    return "\n".join([head, *(_line(number) for number in TITLES)])


def _line(number: int) -> str:
    rows = [row for row in ROWS if row.number == number]
    more, told = EVENTS.get(number, ("", ""))
    count = f"{len(rows)} {more}".strip() if rows else more.removeprefix("+ ")
    return f"| {number} | {TITLES[number]} | {count} | {'; '.join(filter(None, [*_outcomes(rows), told]))} |"


def _outcomes(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(_outcome(row.outcome) for row in rows))


def _outcome(outcome: Outcome) -> str:
    if outcome.code is StatusCode.OK:
        return f"answered or {outcome.or_code.name} of gRPC" if outcome.or_code else "answered"
    if outcome.code is not None:
        return f"{outcome.code.name} of gRPC" if outcome.core else _reason(outcome)
    if outcome.goaway is not None:
        return "GOAWAY"
    return "the connection closes" if outcome.closed else "RST_STREAM"


def _reason(outcome: Outcome) -> str:
    return " or ".join(REASONS[code] for code in (outcome.code, outcome.or_code) if code)


if __name__ == "__main__":
    print(section())  # noqa: T201 - what it is for
