"""What a worker process does: its plugin imported once, its versions opened on threads of their own."""

import json
import socket
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mercato_plugin.frozen import thaw
from mercato_server.contract.artifact import Artifact
from mercato_server.contract.certificate import Certificate
from mercato_server.contract.plugin import Numbered, OfferedModel, Offers, PluginInfo
from mercato_server.contract.secrets import received
from mercato_server.errors import MercatoError, PluginRefused
from mercato_server.plugins.host import load_one
from mercato_server.runtime.child import Version, failure
from mercato_server.runtime.link import Kind, Link, Message
from mercato_server.runtime.memory import limit_memory
from mercato_server.runtime.packing import Packed, pack
from mercato_server.runtime.session import share_threads
from mercato_server.runtime.telling import told
from mercato_server.runtime.worker import Worker
from mercato_server.store.folders import ServedFolders
from mercato_server.store.offered import offers_of
from mercato_server.telemetry.logs import configure


class WorkerProcess:
    """It imports the plugin, then opens versions, each of which has its own threads."""

    def __init__(self, line: Link) -> None:
        self._line = line
        self._offered: dict[Numbered, OfferedModel] = {}
        self._versions: dict[int, Version] = {}

    def start(self) -> None:
        """Import the plugin that the first message names, and answer it."""
        message = self._line.receive()
        if message is not None:
            self._line.send(*self._started(json.loads(message.head), message.number))

    def serve(self) -> None:
        """Open versions until the line is closed."""
        while (message := self._line.receive()) is not None:
            self._open(json.loads(message.head), message)

    def _started(self, facts: dict[str, Any], number: int) -> tuple[Kind, int, Packed]:
        try:
            return Kind.DONE, number, pack(told(self._offers(facts)))
        except MercatoError as error:
            return Kind.FAILED, number, pack(failure(error))

    def _offers(self, facts: dict[str, Any]) -> Offers:
        configure(facts["log_level"], facts["log_format"])
        _check_server(facts["server"])
        if facts["memory"]:
            limit_memory(facts["memory"])
        if facts["shared_threads"]:
            share_threads(facts["shared_threads"])
        plugin, given = PluginInfo(**facts["plugin"]), received(facts["given"])
        found = load_one(plugin, lambda _: given, ServedFolders.from_json(facts["folders"]))
        self._offered = {(offered.spec.name, offered.spec.version): offered for offered in found.models}
        return offers_of(plugin, found)

    def _open(self, facts: dict[str, Any], message: Message) -> None:
        """One more link to a version, which the first one brings into being."""
        link = Link(socket.socket(fileno=message.descriptors[0]), slots=facts["slots"])
        version = self._versions.get(facts["lane"])
        if version is None:
            version = self._versions[facts["lane"]] = self._version(facts)
        version.serve(link)

    def _version(self, facts: dict[str, Any]) -> Version:
        offered = self._offered[facts["model"], facts["version"]]

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
