"""Rows about the header block: content type, path, timeout, metadata (23 to 26)."""

from collections.abc import Callable

from grpc import StatusCode
from tests.server.bad.wire_peer import PREDICT, Header, Peer, Reply, call, message
from tests.server.bad.wire_rows import (
    ANSWERED,
    ERRONEOUS,
    EXPIRED,
    GOOD,
    HEADERS,
    HTTP2,
    MALFORMED,
    ROUTE,
    Outcome,
    Row,
    sending,
    unary,
)

REFUSED = Outcome(reset=2, core=HTTP2)
UNKNOWN_METHOD = Outcome(StatusCode.UNIMPLEMENTED, "ethod", ROUTE)
METADATA_TOO_LARGE = Outcome(StatusCode.RESOURCE_EXHAUSTED, "", HEADERS)
# Between its lower limit and HTTP/2's own, gRPC decides by chance.
BY_CHANCE = Outcome(StatusCode.OK, core=HEADERS, or_code=StatusCode.RESOURCE_EXHAUSTED)
BAD_ID = Outcome(StatusCode.INVALID_ARGUMENT, "request_id: expected at most 128 printable ASCII characters")


def _unread(says: str) -> Outcome:
    return Outcome(StatusCode.INTERNAL, says, HEADERS)


def _with(*headers: Header) -> Callable[[Peer], Reply]:
    return unary(GOOD, *headers)


def _keys(count: int) -> list[Header]:
    return [(b"k%d" % number, b"v") for number in range(count)]


def _values(count: int) -> list[Header]:
    return [(b"k%d" % number, b"X" * 1500) for number in range(count)]


def _path(name: str, path: bytes) -> Row:
    return Row(24, name, unary(GOOD, path=path), UNKNOWN_METHOD)


def _without(name: bytes) -> Callable[[Peer], Reply]:
    return sending([header for header in call() if header[0] != name])


def _instead(name: bytes, value: bytes) -> Callable[[Peer], Reply]:
    return sending([(key, value if key == name else old) for key, old in call()])


def _timeout(value: bytes, outcome: Outcome) -> Row:
    return Row(25, f"timeout {value.decode()!r}", _with((b"grpc-timeout", value)), outcome)


UNREAD_TIMEOUT = _unread("Error parsing 'grpc-timeout'")

# gRPC core never looks at the content type.
TYPES = [
    *(
        Row(23, f"content type {kind.decode()!r}", _instead(b"content-type", kind), ANSWERED)
        for kind in (b"text/plain", b"application/json", b"application/grpc-web", b"")
    ),
    Row(23, "no content type", _without(b"content-type"), ANSWERED),
    *(Row(23, f"method {name.decode()}", _instead(b":method", name), REFUSED) for name in (b"GET", b"PUT")),
    *(
        Row(23, f"no {name.decode()}", _without(name), REFUSED)
        for name in (b":method", b":scheme", b":authority", b":path", b"te")
    ),
    Row(23, "te gzip", _instead(b"te", b"gzip"), _unread("Error parsing 'te'")),
    Row(23, "unknown pseudo header", _with((b":unknown", b"x")), _unread("Illegal header key")),
]

PATHS = [
    _path("//Predict", b"//Predict"),
    _path("/svc/", b"/svc/"),
    _path("empty", b""),
    _path("slash", b"/"),
    _path("no slash", PREDICT[1:]),
    _path("one slash more", PREDICT + b"/"),
    _path("two slashes before", b"/" + PREDICT),
    _path("dots", b"/x/.." + PREDICT),
    _path("query", PREDICT + b"?a=b"),
    _path("percent-encoded", PREDICT.replace(b"P", b"%50")),
    _path("lower case", PREDICT.lower()),
    _path("4 KB", b"/" + b"a" * 4000),
    _path("NUL", PREDICT + b"\0"),
    _path("newline", PREDICT + b"\n"),
    _path("not UTF-8", b"/\xff/\xfe"),
    Row(24, "two paths", _with((b":path", b"/x/y")), UNKNOWN_METHOD),
    Row(24, "8 KB", unary(GOOD, path=b"/" + b"a" * 8000), METADATA_TOO_LARGE),
]

TIMEOUTS = [
    _timeout(b"0n", EXPIRED),
    _timeout(b"99999999H", ANSWERED),
    _timeout(b"999999999H", ANSWERED),
    *(_timeout(value, UNREAD_TIMEOUT) for value in (b"-1S", b"abc", b"", b"1", b"1s", b"1.5S")),
]

METADATA = [
    Row(26, "a value of 8 KB", _with((b"k", b"X" * 8192)), METADATA_TOO_LARGE),
    Row(26, "a value of 17 KB", _with((b"k", b"X" * 17_000)), METADATA_TOO_LARGE),
    Row(26, "15 KB before SETTINGS are acknowledged", _with(*_values(10)), BY_CHANCE, polite=False),
    Row(26, "1000 keys", _with(*_keys(1000)), METADATA_TOO_LARGE),
    Row(26, "150 keys", _with(*_keys(150)), ANSWERED),
    Row(26, "1000 times one key", _with(*[(b"k", b"v")] * 1000), METADATA_TOO_LARGE),
    Row(26, "binary that is not base64", _with((b"a-bin", b"!!!")), _unread("Error parsing 'a-bin'")),
    Row(26, "binary of one character", _with((b"a-bin", b"A")), _unread("Error parsing 'a-bin'")),
    Row(26, "upper-case key", _with((b"Upper", b"v")), _unread("Illegal header key")),
    Row(26, "key with a space", _with((b"a b", b"v")), _unread("Illegal header key")),
    Row(26, "empty key", _with((b"", b"v")), _unread("zero length")),
    *(
        Row(26, f"value {value!r}", _with((b"k", value)), ANSWERED)
        for value in (b"a\0b", b"a\nb", b"a\r\nb: c", b"\xff\xfe")
    ),
    Row(26, "authorization twice", _with((b"authorization", b"a"), (b"authorization", b"b")), ANSWERED),
    *(
        Row(26, f"x-request-id {value[:8]!r} of {len(value)}", _with((b"x-request-id", value)), BAD_ID)
        for value in (b"a\nb", b"a\0b", b"\xff", b"i" * 129, "编号".encode())
    ),
    Row(26, "x-request-id twice", _with((b"x-request-id", b"a"), (b"x-request-id", b"b")), ANSWERED),
    Row(26, "bad id and bad bytes", unary(message(ERRONEOUS), (b"x-request-id", b"\xff")), MALFORMED),
    *(
        Row(26, f"traceparent {value[:8]!r}", _with((b"traceparent", value)), ANSWERED)
        for value in (b"\xff", b"00-0-0-0", b"a\nb", b"0" * 4000)
    ),
]

ROWS = [*TYPES, *PATHS, *TIMEOUTS, *METADATA]
