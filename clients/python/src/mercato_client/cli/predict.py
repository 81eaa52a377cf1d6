"""`mercato predict`: call a model and print its answer."""

from typing import Annotated

import typer

from mercato_client.cli.arguments import read_inputs, read_parameters
from mercato_client.cli.connection import Connection, Server, TlsCa, TlsCert, TlsKey, TlsServerName
from mercato_client.cli.document import answer_document, show_document
from mercato_client.cli.tables import show_answer


def predict(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    input: Annotated[str | None, typer.Option(help="Inputs as JSON, '{\"x\": [[4.0]]}', or @FILE with JSON.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="One row of the model's text input; repeatable.")] = None,
    parameter: Annotated[list[str] | None, typer.Option(help="A parameter as NAME=VALUE; repeatable.")] = None,
    version: Annotated[int | None, typer.Option(help="Call this version.")] = None,
    label: Annotated[str | None, typer.Option(help="Call the version with this label.")] = None,
    server: Server = "localhost:8500",
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = "",
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 10.0,
    priority: Annotated[int | None, typer.Option(help="1 is the most urgent, 9 the least.")] = None,
    receipt: Annotated[bool, typer.Option("--receipt", help="Show where the time went.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Call a model and print its answer."""
    with Connection(server, tls_ca, tls_cert, tls_key, tls_server_name).open(timeout) as client:
        signature = client.signature(model, version=version, label=label)
        answer = client.predict(
            model,
            read_inputs(input, text or (), signature),
            version=version,
            label=label,
            parameters=read_parameters(parameter or (), signature),
            priority=priority,
            receipt=receipt,
        )
    if as_json:
        show_document(answer_document(answer))
    else:
        show_answer(answer)
