"""Certificates for loopback servers and their callers, made for each run."""

from dataclasses import dataclass
from pathlib import Path

import grpc
import trustme

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
        issued = authority.issue_cert(*names)
        return cls(issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes())

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Two files: certificate and key."""
        certificate, key = folder / "cert.pem", folder / "key.pem"
        certificate.write_bytes(self.certificate)
        key.write_bytes(self.key)
        return certificate, key
