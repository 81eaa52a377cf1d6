"""What the first certificate of a PEM file says of itself: the kind of its key, and when it is valid."""

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

# OpenSSL and gRPC take the marker at the start of a line only; before it may stand a comment of any kind.
_FIRST = re.compile(rb"^-----BEGIN CERTIFICATE-----\s+[^-]*-----END CERTIFICATE-----", re.MULTILINE)

# Object identifiers, in DER, of the keys that every gRPC client can verify. gRPC itself takes Ed25519 and P-521 and
# then fails each handshake.
_KEY_KINDS = (
    bytes.fromhex("06092a864886f70d010101"),  # RSA
    bytes.fromhex("06082a8648ce3d030107"),  # P-256
    bytes.fromhex("06052b81040022"),  # P-384
)
_VERSION, _UTC_TIME = 0xA0, 0x17


class Validity(NamedTuple):
    """From when until when, in Unix time."""

    start: float
    end: float

    def fault(self, now: float) -> str:
        """Why it does not hold now, as words that follow a file's name; "" when it does."""
        if now < self.start:
            return f"is not valid before {_written(self.start)}"
        return f"has expired on {_written(self.end)}" if now > self.end else ""


def first(pem: bytes) -> bytes:
    """The first certificate, in DER. Raises ValueError when there is none."""
    found = _FIRST.search(pem)
    if found is None:
        raise ValueError("no certificate")
    return ssl.PEM_cert_to_DER_cert(found[0].decode("ascii"))


def has_common_key(der: bytes) -> bool:
    """Whether its key is of a kind that every gRPC client can verify."""
    return any(kind in der for kind in _KEY_KINDS)


def validity(der: bytes) -> Validity:
    """When it is valid. Raises ValueError when that cannot be read."""
    [(_, certificate)] = _elements(der)
    signed = next(content for _, content in _elements(certificate))
    fields = [content for tag, content in _elements(signed) if tag != _VERSION]
    start, end = (_seconds(tag, content) for tag, content in _elements(fields[3]))
    return Validity(start, end)


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element."""
    while der:
        tag, length, der = der[0], der[1], der[2:]
        if length & 0x80:
            size = length & 0x7F
            length, der = int.from_bytes(der[:size], "big"), der[size:]
        yield tag, der[:length]
        der = der[length:]


def _seconds(tag: int, content: bytes) -> float:
    """Unix time. A year of two digits lies between 1950 and 2049."""
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _written(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
