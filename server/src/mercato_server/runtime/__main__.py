"""The process of one plugin's worker: what it owes to the kernel and to the server that started it.

Started by `mercato_server.runtime.process` with the descriptors of its line to the server and of its dump. It ends when
the server closes the line, and the kernel ends it when the server ends in any other way.
"""

import ctypes
import faulthandler
import logging
import os
import queue
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable

from mercato_server.plugins.barrier import barred_build_tools
from mercato_server.runtime.link import Link

PR_SET_PDEATHSIG = 1

POLITENESS = 5
"""Niceness of the import, which computes for a few tenths of a second beside models that serve."""


def main(parent: int, line: int, dump: int) -> None:
    """Serve until the server closes the line."""
    _die_with(parent)
    os.register_at_fork(after_in_child=lambda: _die_with(0))
    for descriptor in (line, dump):
        os.set_inheritable(descriptor, False)
    _shield(dump)
    with barred_build_tools():
        _serve(Link(socket.socket(fileno=line), accepts=1))


def _serve(line: Link) -> None:
    """Import on this thread, politely, and serve on one that was made before: only root takes politeness back."""
    imported: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    serving = threading.Thread(target=lambda: imported.get()(), name="serve", daemon=True)
    serving.start()
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), POLITENESS)
    # Here, because it imports most of what a worker needs.
    from mercato_server.runtime.plugin_process import WorkerProcess

    process = WorkerProcess(line)
    process.start()
    imported.put(process.serve)
    serving.join()


def _die_with(parent: int) -> None:
    """Have the kernel end this process when the thread that started it ends; 0 stands for whoever is the parent."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent and os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)


def _shield(dump: int) -> None:
    """Keep what the plugin prints, how it crashes and Ctrl-C of the server's terminal where they belong."""
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable(dump)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
    logging.shutdown()
    sys.stdout.flush()
    # Without the interpreter's own clean-up: plugins leave threads behind that may hang it.
    os._exit(0)
