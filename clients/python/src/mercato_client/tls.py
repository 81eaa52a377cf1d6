"""How a connection is encrypted: certificates and keys as files or PEM bytes, checked before gRPC sees them."""

import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from mercato_client import checks
from mercato_client.errors import InvalidInput

Source = str | os.PathLike[str] | bytes

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN ((RSA|EC) )?PRIVATE KEY-----(?!\s*Proc-Type: 4,ENCRYPTED)")


@dataclass(frozen=True)
class TLS:
    """Encryption of a client's connection; each file is a path, or its content as bytes of PEM.

    `ca` holds the certificates that may have signed the server's; without it the system's roots count.
    `cert` and `key` are the client's own, for servers that ask for one. `server_name` is the name in the
    server's certificate where it is not the host of the address. Raises InvalidInput, which names the
    argument, for what cannot be read or is no PEM.
    """

    ca: Source | None = None
    cert: Source | None = None
    key: Source | None = field(default=None, repr=False)
    server_name: str = ""

    def __post_init__(self) -> None:
        checks.text("tls.server_name", self.server_name)
        self.credentials()

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC wants, with the files as they are now."""
        if (self.cert is None) != (self.key is None):
            given, missing = ("key", "cert") if self.cert is None else ("cert", "key")
            raise checks.wrong(f"tls.{missing}", f"missing; tls.{given} is of use only together with it")
        ca = _system_roots() if self.ca is None else _certificates("ca", self.ca)
        cert = None if self.cert is None else _certificates("cert", self.cert)
        return grpc.ssl_channel_credentials(ca, None if self.key is None else _key(self.key), cert)


def _system_roots() -> bytes | None:
    """None where the system has no file of them: gRPC then takes those that it brings."""
    path = ssl.get_default_verify_paths().cafile
    return Path(path).read_bytes() if path else None


def _certificates(name: str, source: Source) -> bytes:
    blocks = _CERTIFICATE.findall(_content(name, source))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=b"\n".join(blocks).decode("ascii"))
    except (OSError, ValueError) as error:
        raise _no_pem(name, "certificate") from error
    return b"\n".join(blocks)


def _key(source: Source) -> bytes:
    content = _content("key", source)
    if not _KEY.search(content):
        raise _no_pem("key", "private key without a passphrase")
    return content


def _content(name: str, source: Source) -> bytes:
    if isinstance(source, bytes):
        return source
    if not isinstance(source, str | os.PathLike):
        raise checks.wrong(f"tls.{name}", f"got {type(source).__name__}, expected a path, or bytes of PEM")
    try:
        return Path(source).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no path"
        raise checks.wrong(f"tls.{name}", f"the file cannot be read: {reason}") from error


def _no_pem(name: str, what: str) -> InvalidInput:
    return checks.wrong(f"tls.{name}", f"expected PEM with a {what}")
