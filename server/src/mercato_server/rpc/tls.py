"""TLS on the data port: the certificate and its reload while serving, and the names in a caller's certificate."""

# grpc's classes are generic in their stubs only, so annotations must stay unevaluated.
from __future__ import annotations

import logging
import math
import os
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import grpc
import grpc.aio

from mercato_server.errors import ConfigError
from mercato_server.rpc.certificate import Validity, first, has_common_key, validity

log = logging.getLogger("mercato.tls")

MAX_FILE_BYTES = 1024 * 1024

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
        self._first, self._validity = _configuration(files)
        self._due = math.inf
        self._fault = ""
        if fault := self._validity.fault(time.time()):
            log.warning("tls_cert: %s %s; callers refuse it", files.cert.name, fault)

    @property
    def asks_callers(self) -> bool:
        """Whether callers have to show a certificate."""
        return self._files.client_ca is not None

    @property
    def expiry(self) -> float:
        """When the certificate in use expires, in Unix time; any thread may ask."""
        return self._validity.end

    def credentials(self) -> grpc.ServerCredentials:
        """For a port whose new connections use what the files hold then; open connections are left alone."""
        fetch: Any = self.changed  # the stubs leave out that None stands for no change
        return grpc.dynamic_ssl_server_credentials(self._first, fetch, self.asks_callers)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What the files hold if that is new and fits, else None; gRPC's threads ask before every handshake."""
        with self._lock:
            stamp = _stamp(self._files)
            if stamp == self._stamp and time.time() < self._due:
                return None
            self._stamp, self._due = stamp, math.inf
            return self._reloaded()

    def _reloaded(self) -> grpc.ServerCertificateConfiguration | None:
        try:
            configuration, found = _configuration(self._files)
            self._check_time(found)
        except ConfigError as error:
            self._warn(str(error))
            return None
        if self._fault:
            log.warning("the TLS files fit again; new connections use them")
        self._fault, self._validity = "", found
        return configuration

    def _check_time(self, found: Validity) -> None:
        now = time.time()
        if now < found.start:
            self._due = found.start  # a clock may run behind the authority's
        if fault := found.fault(now):
            raise ConfigError(f"tls_cert: {self._files.cert.name} {fault}")

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


def _configuration(files: TlsFiles) -> tuple[grpc.ServerCertificateConfiguration, Validity]:
    """The files as gRPC takes them, and when the certificate is valid. Raises ConfigError that names the setting."""
    before = _stamp(files)
    with ExitStack() as stack:
        opened = {setting: stack.enter_context(_opened(setting, path)) for setting, path in files.named()}
        found = {setting: _content(setting, path, opened[setting]) for setting, path in files.named()}
        _check_certificates("tls_cert", files.cert, found["tls_cert"])
        _check_pair(files, opened["tls_cert"], opened["tls_key"])
    when = _checked_first(files.cert, found["tls_cert"])
    authorities = found.get("tls_client_ca")
    if files.client_ca is not None and authorities is not None:
        _check_certificates("tls_client_ca", files.client_ca, authorities)
    if _stamp(files) != before:
        raise ConfigError("tls_cert, tls_key or tls_client_ca was written to while it was read")
    return grpc.ssl_server_certificate_configuration([(found["tls_key"], found["tls_cert"])], authorities), when


def _opened(setting: str, path: Path) -> BinaryIO:
    """A regular file that can be PEM; a pipe is not waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{setting}: {path.name} cannot be read: {error.strerror}; expected a PEM file") from None
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_FILE_BYTES:
        os.close(descriptor)
        raise ConfigError(f"{setting}: {path.name} is not a file of at most {MAX_FILE_BYTES} bytes")
    return os.fdopen(descriptor, "rb")


def _content(setting: str, path: Path, file: BinaryIO) -> bytes:
    try:
        return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{setting}: {path.name} cannot be read: {error.strerror}; expected a PEM file") from None


def _check_certificates(setting: str, path: Path, content: bytes) -> None:
    try:
        # OpenSSL's string has to be ASCII, and a comment need not be.
        text = content.decode("latin-1").encode("ascii", "replace").decode("ascii")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        raise ConfigError(f"{setting}: {path.name} holds no whole certificates; expected PEM") from None


def _check_pair(files: TlsFiles, cert: BinaryIO, key: BinaryIO) -> None:
    """OpenSSL takes a pair by path only: it gets the open files, since whatever the paths lead to could block it."""
    try:
        for file in (cert, key):
            os.lseek(file.fileno(), 0, os.SEEK_SET)  # some systems go on where the descriptor was read to
        chain, own = (f"/dev/fd/{file.fileno()}" for file in (cert, key))
        # An empty password, or OpenSSL would ask the terminal for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, own, password="")
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


def _checked_first(path: Path, content: bytes) -> Validity:
    """When the first certificate is valid; the kind of its key is checked."""
    try:
        der = first(content)
        when = validity(der)
    except (ValueError, LookupError, StopIteration):
        raise ConfigError(f"tls_cert: {path.name} begins with a certificate that cannot be read") from None
    if not has_common_key(der):
        raise ConfigError(f"tls_cert: {path.name} has a key that gRPC clients do not take; use RSA, P-256 or P-384")
    return when
