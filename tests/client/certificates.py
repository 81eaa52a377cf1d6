"""Certificates for loopback servers and their callers, made for each run."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from mercato_client import TLS


class Authority:
    """One certificate authority and what it has signed."""

    def __init__(self) -> None:
        self._authority = trustme.CA()
        self.pem = self._authority.cert_pem.bytes()
        self.server = Signed.by(self._authority, "localhost", "127.0.0.1")
        self.caller = Signed.by(self._authority, "caller.example")

    def credentials(self, *, ask_callers: bool = False) -> grpc.ServerCredentials:
        """What a server shows, and whether callers must have a certificate of the same authority."""
        pair = (self.server.key, self.server.certificate)
        return grpc.ssl_server_credentials([pair], self.pem if ask_callers else None, ask_callers)

    def dated(self, first: int, last: int) -> grpc.ServerCredentials:
        """What a server shows whose certificate is valid between two days, counted from today."""
        now = datetime.now(UTC)
        begin, end = now + timedelta(days=first), now + timedelta(days=last)
        issued = Signed.of(self._authority.issue_cert("localhost", "127.0.0.1", not_before=begin, not_after=end))
        return grpc.ssl_server_credentials([(issued.key, issued.certificate)])

    def for_callers_only(self) -> grpc.ServerCredentials:
        """What a server shows whose certificate is meant for callers."""
        plain = x509.load_pem_x509_certificate(self.server.certificate)
        key = serialization.load_pem_private_key(self._authority.private_key_pem.bytes(), None)
        builder = x509.CertificateBuilder(plain.issuer, plain.subject, plain.public_key(), plain.serial_number)
        builder = builder.not_valid_before(plain.not_valid_before_utc).not_valid_after(plain.not_valid_after_utc)
        for extension in plain.extensions:
            if extension.oid != ExtensionOID.EXTENDED_KEY_USAGE:
                builder = builder.add_extension(extension.value, extension.critical)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
        signed = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
        return grpc.ssl_server_credentials([(self.server.key, signed.public_bytes(serialization.Encoding.PEM))])

    def tls(self) -> TLS:
        """What a caller needs for a server of this authority that asks for certificates."""
        return TLS(ca=self.pem, cert=self.caller.certificate, key=self.caller.key)


@dataclass(frozen=True)
class Signed:
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes

    @classmethod
    def by(cls, authority: trustme.CA, *names: str) -> "Signed":
        return cls.of(authority.issue_cert(*names))

    @classmethod
    def of(cls, issued: trustme.LeafCert) -> "Signed":
        return cls(issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes())

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Two files: certificate and key."""
        certificate, key = folder / "cert.pem", folder / "key.pem"
        certificate.write_bytes(self.certificate)
        key.write_bytes(self.key)
        return certificate, key
