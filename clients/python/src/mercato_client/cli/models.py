"""`mercato models`: everything a server offers, or one model with its signature and a call to paste."""

from typing import Annotated

import typer

from mercato_client.cli.connection import Connection, Server, TlsCa, TlsCert, TlsKey, TlsServerName
from mercato_client.cli.document import show_document
from mercato_client.cli.example import example_call
from mercato_client.cli.tables import show_catalog, show_model
from mercato_client.schema import Model


def models(
    name: Annotated[str | None, typer.Argument(help="Name of one model; all models when left out.")] = None,
    server: Server = "localhost:8500",
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the models of a server, or show one with its signature and a call to paste."""
    connection = Connection(server, tls_ca, tls_cert, tls_key, tls_server_name)
    with connection.open() as client:
        found = client.catalog() if name is None else client.model(name)
    if as_json:
        show_document(found)
    elif isinstance(found, Model):
        _show(found, connection)
    else:
        show_catalog(found)


def _show(model: Model, connection: Connection) -> None:
    show_model(model)
    chosen = model.choose()
    if chosen and chosen.signature:
        typer.echo(f"\nCall it from Python:\n\n{example_call(model.name, chosen.signature, connection)}")
