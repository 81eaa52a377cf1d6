"""`mercato serve`: run the server until it is told to stop."""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, TextIO

import typer
import uvloop
from rich.console import Console

from mercato_server import config
from mercato_server.app import App, serve
from mercato_server.commands.failure import fail
from mercato_server.commands.installed import MODELS_DIR_HELP
from mercato_server.commands.progress import ExportProgress
from mercato_server.commands.report import JsonReport, TextReport
from mercato_server.errors import StartupError
from mercato_server.plugins.barrier import barred_build_tools
from mercato_server.telemetry.logs import configure


def command(
    listen: Annotated[str | None, typer.Option(help="Address and port; port 0 lets the system choose.")] = None,
    metrics_listen: Annotated[str | None, typer.Option(help="Address and port of the metrics, or off.")] = None,
    probe_listen: Annotated[
        str | None, typer.Option(help="Loopback port of plain-text health under TLS, or off.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file with the certificate chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file with the certificate's key.")] = None,
    tls_client_ca: Annotated[Path | None, typer.Option(help="PEM file with the authorities of callers.")] = None,
    insecure: Annotated[bool | None, typer.Option("--insecure", help="Allow plain text beyond loopback.")] = None,
    store: Annotated[Path | None, typer.Option(help="Folder of the exported artifacts.")] = None,
    models_dir: Annotated[Path | None, typer.Option(help=MODELS_DIR_HELP)] = None,
    gate: Annotated[
        list[str] | None, typer.Option(metavar="EXPR", help="Metric bound of a labelled version, such as 'f1>=0.8'.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="auto, cpu, cuda or tensorrt.")] = None,
    strict: Annotated[bool | None, typer.Option("--strict", help="Refuse to start when anything failed.")] = None,
    isolation: Annotated[
        str | None, typer.Option(help="Where plugins run: process (each in one of its own) or inline (in threads).")
    ] = None,
    memory_limit: Annotated[int | None, typer.Option(help="Most bytes that all models together may take.")] = None,
    admin_listen: Annotated[
        str | None, typer.Option(help="Admin listener: unix, unix:PATH, a loopback port, or off.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, console or json.")] = None,
    tracing: Annotated[str | None, typer.Option(help="off or otlp.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON line per event on standard output.")] = False,
) -> None:
    """Discover, export, load and serve every installed model."""
    try:
        settings = config.load(
            listen=listen, metrics_listen=metrics_listen, probe_listen=probe_listen,
            tls_cert=tls_cert, tls_key=tls_key, tls_client_ca=tls_client_ca, insecure=insecure,
            store=store, models_dir=models_dir, gate=gate or None, provider=provider, strict=strict,
            isolation=isolation, memory_limit=memory_limit, admin_listen=admin_listen,
            log_level=log_level, log_format=log_format, tracing=tracing,
        )  # fmt: skip
        settings.check_serving()
        configure(settings.log_level, settings.log_format)
        out = sys.stdout
        # What plugins print must not mix with what the server says.
        with barred_build_tools(), ExportProgress(Console(stderr=True)) as progress, redirect_stdout(sys.stderr):
            uvloop.run(_run(settings, progress, out, json_output))
    except StartupError as error:
        fail("serve", error)


async def _run(settings: config.Settings, progress: ExportProgress, out: TextIO, json_output: bool) -> None:
    app = App(settings, progress.update)
    report = JsonReport(app, out) if json_output else TextReport(app, out, settings)

    def ready() -> None:
        progress.stop()
        report.ready()

    await serve(app, report.listening, ready)
