"""A server with TLS as a caller sees it: its files, its ports, and connections with any certificate or none."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from cryptography import x509
from tests.server.calls import Wire
from tests.server.running import Running
from tests.server.security.authority import Authority, Issued


class Files:
    """The PEM files of one server, written whole and put in place with one rename each."""

    def __init__(self, folder: Path, *, asks_callers: bool = True) -> None:
        folder.mkdir(parents=True)
        self.authority, self.callers = Authority(), Authority()
        self.cert, self.key, self.client_ca = (folder / name for name in ("server.pem", "server.key", "callers.pem"))
        self.current = self.authority.server()
        self.put(self.current)
        replace(self.client_ca, self.callers.pem)
        asking = ("--tls-client-ca", str(self.client_ca)) if asks_callers else ()
        self.flags = ("--tls-cert", str(self.cert), "--tls-key", str(self.key), *asking)

    def put(self, issued: Issued) -> None:
        """The pair that new connections are to get."""
        self.current = issued
        replace(self.cert, issued.certificate)
        replace(self.key, issued.key)


class Secured:
    """One running server over `files`; construction waits until it listens."""

    def __init__(self, running: Running, files: Files) -> None:
        self.running, self.files = running, files
        self.listening = running.event("listening")
        self.port: int = self.listening["port"]
        self.address = f"127.0.0.1:{self.port}"

    @contextmanager
    def wire(self, caller: Issued | None = None, authority: bytes = b"", server_name: str = "") -> Iterator[Wire]:
        """A connection of its own that shows `caller`; the server has to be `server_name`, signed by `authority`."""
        shown = (caller.key, caller.certificate) if caller else (None, None)
        credentials = grpc.ssl_channel_credentials(authority or self.files.authority.pem, *shown)
        options: list[tuple[str, int | str]] = [("grpc.use_local_subchannel_pool", 1)]
        if server_name:
            options.append(("grpc.ssl_target_name_override", server_name))
        with grpc.secure_channel(self.address, credentials, options) as channel:
            yield Wire(channel)

    def caller(self, *names: str) -> Issued:
        """A certificate that the server accepts."""
        return self.files.callers.issue(*names)

    def serial(self) -> int:
        """Of the certificate that a new connection is shown."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=20) as raw,
            context.wrap_socket(raw) as connection,
        ):
            der = connection.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number


def replace(path: Path, content: bytes) -> None:
    """Nobody sees a part of the new content."""
    part = path.with_suffix(".part")
    part.write_bytes(content)
    os.replace(part, path)
