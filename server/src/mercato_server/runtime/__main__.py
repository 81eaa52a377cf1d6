"""The worker process of one plugin: its plugin imported once, its versions loaded and run on threads of their own.

Started by `mercato_server.runtime.process` with the descriptors of its line to the server and of its dump. It ends when
the server closes the line, and the kernel ends it when the server ends in any other way.
"""

import ctypes
import faulthandler
import json
import logging
import os
import resource
import signal
import socket
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mercato_plugin.frozen import freeze, thaw
from mercato_server.contract.artifact import Artifact
from mercato_server.contract.certificate import Certificate
from mercato_server.contract.plugin import OfferedModel, PluginInfo
from mercato_server.contract.secrets import received
from mercato_server.errors import MercatoError, PluginRefused
from mercato_server.plugins.barrier import barred_build_tools
from mercato_server.plugins.host import load_one
from mercato_server.runtime.child import Version, failure
from mercato_server.runtime.link import Kind, Link, Message
from mercato_server.runtime.memory import limit_memory
from mercato_server.runtime.packing import Packed, pack
from mercato_server.runtime.session import share_threads
from mercato_server.runtime.worker import Worker
from mercato_server.store.offered import offer_of
from mercato_server.telemetry.logs import configure

PR_SET_PDEATHSIG = 1


def main(parent: int, line: int, dump: int) -> None:
    """Serve until the server closes the line."""
    _die_with(parent)
    os.register_at_fork(after_in_child=lambda: _die_with(0))
    for descriptor in (line, dump):
        os.set_inheritable(descriptor, False)
    _shield(dump)
    process = WorkerProcess(Link(socket.socket(fileno=line), accepts=1))
    with barred_build_tools():
        process.serve()


class WorkerProcess:
    """What the main thread does: it imports the plugin and opens versions, each of which has its own threads."""

    def __init__(self, line: Link) -> None:
        self._line = line
        self._offered: dict[str, OfferedModel] = {}
        self._versions: dict[int, Version] = {}

    def serve(self) -> None:
        """Until the line is closed."""
        while (message := self._line.receive()) is not None:
            facts = json.loads(message.head)
            if message.kind == Kind.START:
                self._line.send(*self._started(facts, message.number))
            else:
                self._open(facts, message)

    def _started(self, facts: dict[str, Any], number: int) -> tuple[Kind, int, Packed]:
        try:
            return Kind.DONE, number, pack({"offers": self._offers(facts)})
        except MercatoError as error:
            return Kind.FAILED, number, pack(failure(error))

    def _offers(self, facts: dict[str, Any]) -> list[dict[str, Any]]:
        configure(facts["log_level"], facts["log_format"])
        _check_server(facts["server"])
        if facts["memory"]:
            limit_memory(facts["memory"])
        if facts["shared_threads"]:
            share_threads(facts["shared_threads"])
        plugin = PluginInfo(**facts["plugin"])
        given = received(facts["given"])
        offered = load_one(plugin, lambda _: given)
        self._offered = {model.spec.name: model for model in offered}
        try:
            return [{"spec": freeze(offer.spec), "key": offer.key} for offer in map(offer_of, offered)]
        except Exception as error:
            raise PluginRefused("SETTINGS_INVALID", f"{plugin.distribution}: {error}") from error

    def _open(self, facts: dict[str, Any], message: Message) -> None:
        """One more link to a version, which the first one brings into being."""
        link = Link(socket.socket(fileno=message.descriptors[0]), slots=facts["slots"])
        version = self._versions.get(facts["lane"])
        if version is None:
            version = self._versions[facts["lane"]] = self._version(facts)
        version.serve(link)

    def _version(self, facts: dict[str, Any]) -> Version:
        offered = self._offered[facts["model"]]

        def make() -> Worker:
            artifact = _artifact(Path(facts["folder"]), facts["digest"], offered.plugin)
            return Worker(offered, artifact, provider=facts["provider"], threads=facts["threads"])

        return Version(offered.spec.name, make)


def _check_server(running: str) -> None:
    """Refuse to work for a server of another version: both ends of a link are of one."""
    if (installed := version("mercato-server")) != running:
        raise PluginRefused(
            "API_VERSION", f"mercato-server {installed} was installed while {running} runs; restart the server"
        )


def _artifact(folder: Path, digest: str, plugin: PluginInfo) -> Artifact:
    """The artifact in a folder that the server has verified, and verifies again once the version is warm."""
    spec = thaw(json.loads((folder / "spec.json").read_bytes()))
    certificate = Certificate.from_json(json.loads((folder / "certificate.json").read_bytes()))
    return Artifact(digest, folder, spec, certificate, plugin.distribution, plugin.version, {})


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
