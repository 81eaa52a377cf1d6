"""The `mercato` command: its group, and the exit code of each kind of error."""

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from mercato_client.cli.lazy import LazyCommand, installed_commands
from mercato_client.cli.models import models
from mercato_client.cli.predict import predict
from mercato_client.errors import InvalidInput, MercatoError, NotFound, NotReady, Overloaded, Unavailable

EXIT_CODES: tuple[tuple[type[MercatoError], int], ...] = (
    (InvalidInput, 2),
    (NotFound, 3),
    (NotReady, 4),
    (Overloaded, 4),
    (Unavailable, 4),
)

EPILOG = "Exit codes: 0 done, 2 wrong usage or input, 3 not found, 4 no server or not ready, 1 any other error."


class MercatoGroup(TyperGroup):
    """The subcommands of this distribution, and those that other distributions add."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every name, without importing the commands of others."""
        own = super().list_commands(ctx)
        return own + [name for name in installed_commands() if name not in own]

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
        """The command of that name; one of another distribution is imported when it is called."""
        own = super().get_command(ctx, cmd_name)
        found = installed_commands().get(cmd_name) if own is None else None
        return LazyCommand(cmd_name, found) if found else own  # type: ignore[return-value]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """No arguments at all ask for help."""
        return super().parse_args(ctx, args or ["--help"])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run; an expected error becomes one line on stderr and an exit code, as does an int that a command returns."""
        try:
            result = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except MercatoError as error:
            _fail(error.message, exit_code(error))
        except typer.TyperException as error:
            _fail(error.format_message().rstrip(".") + _hint(error), error.exit_code)
        except typer.Abort:
            _fail("aborted", 1)
        if standalone_mode:
            sys.exit(result if isinstance(result, int) else 0)
        return result


def exit_code(error: MercatoError) -> int:
    """2 wrong input, 3 not found, 4 unavailable or not ready, 1 any other."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)


def run() -> None:
    """Run `mercato` with the process's arguments, and exit."""
    typer.main.get_command(app)(prog_name="mercato")


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"mercato: {' '.join(message.split())}", err=True)
    sys.exit(code)


def _hint(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"; see `{context.command_path} --help`" if context else ""


app = typer.Typer(
    name="mercato",
    cls=MercatoGroup,
    help="Serve e-commerce models, and call them.",
    epilog=EPILOG,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(predict)
app.command()(models)
