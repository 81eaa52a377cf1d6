"""The `mercato` command's entry: it only checks that the packages of the extra `cli` are there."""

import sys


def main() -> None:
    """Run the command with the process's arguments, and exit with its code."""
    try:
        from mercato_client.cli.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("mercato"):
            raise
        sys.exit('mercato: the command needs more packages; run: pip install "mercato-client[cli]"')
    run()
