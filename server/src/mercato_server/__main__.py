"""`python -m mercato_server` is `mercato serve`."""

import typer

from mercato_server.commands.serve import command

if __name__ == "__main__":
    typer.run(command)
