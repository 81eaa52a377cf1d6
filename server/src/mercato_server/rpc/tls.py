"""TLS on the data port: the certificate and its reload while serving, and the names in a caller's certificate."""

# grpc's classes are generic in their stubs only, so annotations must stay unevaluated.
from __future__ import annotations

import logging
import ssl
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import grpc.aio

from mercato_server.errors import ConfigError

log = logging.getLogger("mercato.tls")

MAX_FILE_BYTES = 1024 * 1024

# Object identifiers, in DER, of the keys that every gRPC client can verify. gRPC itself takes Ed25519 and P-521 and
# then fails each handshake.
_KEY_KINDS = (
    bytes.fromhex("06092a864886f70d010101"),  # RSA
    bytes.fromhex("06082a8648ce3d030107"),  # P-256
    bytes.fromhex("06052b81040022"),  # P-384
)

Stamp: TypeAlias = "tuple[tuple[int, ...] | None, ...]"


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: the server's chain and its key, and the authorities of callers; without these no caller is asked."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    def named(self) -> Iterator[tuple[str, Path]]:
        """Each file with the setting that names it."""
        yield "tls_cert", self.cert
        yield "tls_key", self.key
        if self.client_ca is not None:
            yield "tls_client_ca", self.client_ca


class Certificates:
    """What the files held when they last fitted together. Raises ConfigError when they do not fit at the start."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._stamp = _stamp(files)
        self._first = _configuration(files)
        self._fault = ""

    @property
    def asks_callers(self) -> bool:
        """Whether callers have to show a certificate."""
        return self._files.client_ca is not None

    def credentials(self) -> grpc.ServerCredentials:
        """For a port whose new connections use what the files hold then; open connections are left alone."""
        fetch: Any = self.changed  # the stubs leave out that None stands for no change
        return grpc.dynamic_ssl_server_credentials(self._first, fetch, self.asks_callers)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What the files hold if that is new and fits, else None; gRPC's threads ask before every handshake."""
        with self._lock:
            stamp = _stamp(self._files)
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            return self._reloaded()

    def _reloaded(self) -> grpc.ServerCertificateConfiguration | None:
        try:
            configuration = _configuration(self._files)
        except ConfigError as error:
            self._warn(str(error))
            return None
        if self._fault:
            log.warning("the TLS files fit again; new connections use them")
        self._fault = ""
        return configuration

    def _warn(self, fault: str) -> None:
        """Once for each fault: callers decide how often this is reached."""
        if fault != self._fault:
            log.warning("the TLS files have changed and are not used: %s; the certificate before them stays", fault)
        self._fault = fault


def principals(context: grpc.aio.ServicerContext[Any, Any]) -> tuple[str, ...]:
    """The names that the authority wrote into the verified certificate: its URIs, without any its DNS names.

    The common name never counts.
    """
    facts = context.auth_context()
    (certificate,) = facts.get("x509_pem_cert", (b"",))
    return _names(certificate, tuple(facts.get("peer_uri", ())), tuple(facts.get("peer_dns", ())))


@lru_cache(maxsize=1024)
def _names(certificate: bytes, uris: tuple[bytes, ...], hosts: tuple[bytes, ...]) -> tuple[str, ...]:
    """gRPC cuts a name at a NUL, so one that goes on behind it could pass for another caller's; it is left out.

    A host name with a colon, or a URI without, could pass for a name of the other kind.
    """
    der = ssl.PEM_cert_to_DER_cert(certificate.decode("ascii")) if certificate else b""

    def kept(names: tuple[bytes, ...], has_colon: bool) -> tuple[str, ...]:
        whole = (name for name in names if name.isascii() and name + b"\0" not in der)
        return tuple(name.decode("ascii") for name in whole if (b":" in name) == has_colon)

    return kept(uris, True) or kept(hosts, False)


def _stamp(files: TlsFiles) -> Stamp:
    """Equal as long as no file was replaced or written to."""
    return tuple(_state(path) for _, path in files.named())


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    """The files as gRPC takes them. Raises ConfigError that names the setting."""
    before = _stamp(files)
    found = {setting: _content(setting, path) for setting, path in files.named()}
    _check_certificates("tls_cert", files.cert, found["tls_cert"])
    _check_pair(files)
    _check_kind(files.cert, found["tls_cert"])
    authorities = found.get("tls_client_ca")
    if files.client_ca is not None and authorities is not None:
        _check_certificates("tls_client_ca", files.client_ca, authorities)
    if _stamp(files) != before:
        raise ConfigError("tls_cert, tls_key or tls_client_ca was written to while it was read")
    return grpc.ssl_server_certificate_configuration([(found["tls_key"], found["tls_cert"])], authorities)


def _content(setting: str, path: Path) -> bytes:
    """A whole file, unless opening it could block or it cannot be PEM."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{setting}: {path.name} is not a file of at most {MAX_FILE_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting}: {path.name} cannot be read: {error.strerror}; expected a PEM file") from None


def _check_certificates(setting: str, path: Path, content: bytes) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=content.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):
        raise ConfigError(f"{setting}: {path.name} holds no whole certificates; expected PEM") from None


def _check_pair(files: TlsFiles) -> None:
    try:
        # An empty password, or OpenSSL would ask the terminal for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.cert, files.key, password="")
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"tls_key: {_key_fault(files, error)}") from None


def _key_fault(files: TlsFiles, error: OSError) -> str:
    match getattr(error, "reason", None):
        case "KEY_VALUES_MISMATCH" | "KEY_TYPE_MISMATCH":
            return f"{files.key.name} does not belong to the certificate in {files.cert.name}"
        case "EE_KEY_TOO_SMALL":
            return f"{files.key.name} holds a key that is too small; expected RSA of 2048 bits or more, P-256 or P-384"
        case _:
            return f"{files.key.name} holds no key that can be read; expected PEM without a password"


def _check_kind(path: Path, content: bytes) -> None:
    """The kind of the first certificate's key."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    first = content.decode("ascii", "ignore").partition(begin)[2].partition(end)[0]
    der = ssl.PEM_cert_to_DER_cert(f"{begin}{first}{end}")
    if not any(kind in der for kind in _KEY_KINDS):
        raise ConfigError(f"tls_cert: {path.name} has a key that gRPC clients do not take; use RSA, P-256 or P-384")
