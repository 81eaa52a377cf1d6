"""Owns certificates of tests: an authority, and what it signs for servers and callers, with any flaw a test wants."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from trustme import CA

COMMON_NAME = "common-name"
HOSTS = ("127.0.0.1", "localhost")
FOR_SERVERS = ExtendedKeyUsageOID.SERVER_AUTH
FOR_CLIENTS = ExtendedKeyUsageOID.CLIENT_AUTH

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
KINDS: dict[str, Callable[[], Key]] = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa1024": lambda: rsa.generate_private_key(65_537, 1024),  # noqa: S505  (too small on purpose)
    "rsa2048": lambda: rsa.generate_private_key(65_537, 2048),
}


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, both as PEM."""

    certificate: bytes
    key: bytes

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.certificate).serial_number

    def written(self, folder: Path) -> tuple[Path, Path]:
        """The pair as two files."""
        folder.mkdir(parents=True, exist_ok=True)
        pair = folder / "server.pem", folder / "server.key"
        for path, content in zip(pair, (self.certificate, self.key), strict=True):
            path.write_bytes(content)
        return pair


class Authority:
    """A certificate authority. Names may be host names, addresses or URIs, in the order given."""

    def __init__(self) -> None:
        made = CA()
        self.pem = made.cert_pem.bytes()
        self._subject = x509.load_pem_x509_certificate(self.pem).subject
        key = load_pem_private_key(made.private_key_pem.bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key

    def server(self, *names: str) -> Issued:
        """A server's certificate, for this machine's loopback names unless told otherwise."""
        return self.issue(*(names or HOSTS), usage=FOR_SERVERS)

    def issue(
        self,
        *names: str,
        days: tuple[float, float] = (-1, 1),
        usage: x509.ObjectIdentifier = FOR_CLIENTS,
        self_signed: bool = False,
        password: bytes = b"",
        kind: str = "p256",
    ) -> Issued:
        """A certificate that is valid between `days` from now, with the common name `common-name`."""
        key = KINDS[kind]()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, COMMON_NAME)])
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder(
            subject_name=subject,
            issuer_name=subject if self_signed else self._subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now + dt.timedelta(days=days[0]),
            not_valid_after=now + dt.timedelta(days=days[1]),
        ).add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_name, names))), critical=False)
        made = builder.sign(key if self_signed else self._key, SHA256())
        return Issued(made.public_bytes(Encoding.PEM), _pem(key, password))


def _name(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: Key, password: bytes) -> bytes:
    hidden: KeySerializationEncryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden)
