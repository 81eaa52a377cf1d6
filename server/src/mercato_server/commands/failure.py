"""How a command says that it cannot go on."""

from typing import NoReturn

import typer

from mercato_server.errors import StartupError


def fail(command: str, error: StartupError, code: int = 1) -> NoReturn:
    """One line on standard error, as it is: reasons hold square brackets, and logs are not 80 columns wide."""
    typer.echo(f"mercato {command}: {error}", err=True)
    raise typer.Exit(code) from None
