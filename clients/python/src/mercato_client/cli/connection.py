"""How the command connects: the options that say so, and the same as Python source."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from mercato_client.errors import InvalidInput, Violation

if TYPE_CHECKING:
    from mercato_client.client import Client

Server = Annotated[str, typer.Option(help="Address of the server.")]
TlsCa = Annotated[Path | None, typer.Option(help="Connect with TLS; PEM file of who signed the server's certificate.")]
TlsCert = Annotated[Path | None, typer.Option(help="Connect with TLS; PEM file of the caller's certificate.")]
TlsKey = Annotated[Path | None, typer.Option(help="PEM file of the key that belongs to --tls-cert.")]
TlsServerName = Annotated[
    str, typer.Option(help="Connect with TLS; name in the server's certificate where it is not the host of --server.")
]


class Connection(NamedTuple):
    """Where to connect, and with which files."""

    server: str
    ca: Path | None
    cert: Path | None
    key: Path | None
    server_name: str = ""

    def open(self, timeout: float = 10.0) -> "Client":
        """A client. Raises InvalidInput, which names the option."""
        from mercato_client.client import Client
        from mercato_client.tls import TLS

        try:
            tls = TLS(**self._given()) if self._given() else None
        except InvalidInput as error:
            raise InvalidInput.of(*map(_as_option, error.violations)) from error
        return Client(self.server, timeout=timeout, tls=tls)

    def source(self) -> tuple[str, str]:
        """What to import, and how to make the client, in Python."""
        tls = ", ".join(f"{name}={value!r}" for name, value in self._given().items())
        server = f'"{self.server}"'
        return ("TLS, Client", f"Client({server}, tls=TLS({tls}))") if tls else ("Client", f"Client({server})")

    def _given(self) -> dict[str, str]:
        """The arguments of TLS."""
        files = {"ca": self.ca, "cert": self.cert, "key": self.key}
        given = {name: str(path) for name, path in files.items() if path is not None}
        return {**given, "server_name": self.server_name} if self.server_name else given


def _as_option(violation: Violation) -> Violation:
    """The argument tls.ca is the option --tls-ca here."""
    option = "--" + violation.field.replace(".", "-").replace("_", "-")
    return Violation(option, violation.description.replace("tls.", "--tls-"))
