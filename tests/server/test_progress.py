"""The progress bars of exports: on a terminal only, elsewhere they would stand between the lines of the log."""

import io

import pytest
from rich.console import Console
from tests.server.running import Running

from mercato_server.commands.progress import ExportProgress
from mercato_server.export.request import Progress


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_are_drawn_on_a_terminal_only(terminal: bool) -> None:
    out = io.StringIO()
    with ExportProgress(Console(file=out, force_terminal=terminal, width=80)) as progress:
        progress.update("shop.tiny", Progress("certify", 1, 2))
        progress.update("shop.tiny", Progress("certify", 2, 2))
    assert ("shop.tiny: certify" in out.getvalue(), bool(out.getvalue())) == (terminal, terminal)


def test_the_log_of_a_server_that_exported_has_no_bar(server: Running) -> None:
    assert "certify" not in server.log
