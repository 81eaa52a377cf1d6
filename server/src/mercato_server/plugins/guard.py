"""What a plugin's own code may raise while it is loaded, turned into a refusal."""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator

from mercato_server.contract.plugin import PluginInfo
from mercato_server.contract.summary import summary
from mercato_server.errors import PluginRefused
from mercato_server.plugins.barrier import barred_tool

log = logging.getLogger("mercato.plugins")


@contextlib.contextmanager
def guarded(info: PluginInfo, code: str, what: str) -> Iterator[None]:
    """Turn whatever the plugin raises, SystemExit included, into a refusal; the traceback goes to the log."""
    try:
        yield
    except PluginRefused:
        raise
    except BaseException as error:
        if _is_from_terminal(error):
            raise
        log.warning("plugin %s %s", info.distribution, what, exc_info=error, extra={"plugin": info.distribution})
        if tool := barred_tool(error):
            raise PluginRefused(
                "IMPORTS_BUILD_TOOLS",
                f"{info.distribution}: loading {info.module} imports {tool}, which must not enter a serving process; "
                "move the import into build or train, or make build an import string",
            ) from error
        raise PluginRefused(code, f"{info.distribution} {what}: {summary(error)}") from error


def _is_from_terminal(error: BaseException) -> bool:
    """Whether it is Ctrl-C: it arrives on the main thread, unless it is ignored. Any other one the plugin raised."""
    arrives = threading.current_thread() is threading.main_thread()
    return isinstance(error, KeyboardInterrupt) and arrives and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
