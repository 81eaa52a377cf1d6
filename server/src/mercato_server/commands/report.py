"""What a running server tells its operator: tables for people, JSON lines for machines."""

import json
from typing import TextIO

from mercato_client.cli.tables import fallback, no_gpu
from mercato_server.app import App
from mercato_server.commands import tables
from mercato_server.config import Settings
from mercato_server.contract.plugin import Refusal
from mercato_server.serving.catalog import Version

_TLS = {
    "off": "plain text",
    "tls": "TLS",
    "mtls": "TLS, callers show certificates",
}
_CALLS = """call it:
  mercato predict {model} {example} --server {address}
  mercato models {model} --server {address}"""


class TextReport:
    """For people, on `out`."""

    def __init__(self, app: App, out: TextIO, settings: Settings) -> None:
        self._app = app
        self._out = out
        self._host = settings.listen.rpartition(":")[0]
        self._metrics_host = settings.metrics_listen.rpartition(":")[0]
        self._probe_host = settings.probe_listen.rpartition(":")[0]

    def listening(self, port: int) -> None:
        """The port is open; models are still on their way."""
        self._say(f"listening on {self._host}:{port}, {_TLS[self._app.tls]}")
        if self._app.probe_port:
            self._say(f"health for probes on {self._probe_host}:{self._app.probe_port}, plain text")
        if self._app.metrics_port:
            self._say(f"metrics on http://{self._metrics_host}:{self._app.metrics_port}/metrics")
        if self._app.admin_address:
            self._say(f"administered on {self._app.admin_address}")

    def ready(self) -> None:
        """Every model is available or failed."""
        versions = self._app.catalog.versions()
        columns = ("model", "version", "state", "provider", "certificate", "reason")
        why = fallback(version.status.reason for version in versions if version.engine is not None)
        tables.show(columns, [_cells(version, why) for version in versions], out=self._out)
        if why:
            self._say(no_gpu(why))
        for refusal in self._app.catalog.refused:
            what = f", {refusal.what}" if refusal.model else ""
            self._say(f"refused {refusal.plugin.distribution}{what}: {refusal.code}: {refusal.reason}")
        for untrained in self._app.catalog.untrained:
            self._say(f"untrained: {untrained.model}; {untrained.way_out}")
        available = [version for version in versions if version.engine is not None]
        if available:
            address = f"{self._host}:{self._app.port}"
            self._say(_CALLS.format(model=available[0].name, example=_example(available[0]), address=address))
        self._say("stop it with Ctrl-C")

    def _say(self, text: str) -> None:
        print(text, file=self._out, flush=True)


class JsonReport:
    """For machines: one JSON object per line on `out`."""

    def __init__(self, app: App, out: TextIO) -> None:
        self._app = app
        self._out = out

    def listening(self, port: int) -> None:
        """The port is open; models are still on their way."""
        ports = {"metrics_port": self._app.metrics_port or None, "probe_port": self._app.probe_port or None}
        admin = self._app.admin_address or None
        self._emit({"event": "listening", "port": port, "tls": self._app.tls, **ports, "admin": admin})

    def ready(self) -> None:
        """Every model is available or failed."""
        catalog = self._app.catalog
        models = [
            {"model": v.name, "version": v.number, "state": v.status.state.value, "reason": v.status.reason}
            for v in catalog.versions()
        ]
        refused = list(map(_refused, catalog.refused))
        untrained = [untrained.model for untrained in catalog.untrained]
        self._emit({"event": "ready", "models": models, "refused_plugins": refused, "untrained": untrained})

    def _emit(self, event: dict[str, object]) -> None:
        print(json.dumps(event), file=self._out, flush=True)


def _refused(refusal: Refusal) -> dict[str, object]:
    """With null for the model, and for the version, where all of it is refused."""
    alone = {"model": refusal.model or None, "version": refusal.version or None}
    return {"plugin": refusal.plugin.distribution, **alone, "code": refusal.code, "reason": refusal.reason}


def _cells(version: Version, told: str) -> tuple[str, ...]:
    """One row; a reason that is `told` for all of them is left out."""
    certificate = version.certificate.kind if version.certificate else "-"
    provider = ", ".join(version.providers) or "-"
    status = version.status
    reason = "" if status.reason == told else status.reason
    return version.name, str(version.number), status.state.value, provider, certificate, reason


def _example(version: Version) -> str:
    """Arguments of a call that the model takes: text, or one row of ones."""
    inputs = {name: item for name, item in version.spec.inputs.items() if not item.optional}
    if list(inputs) and all(item.kind == "text" for item in inputs.values()):
        return "--text 'red running shoes'"
    values = {name: _ones(item.row_axes) for name, item in inputs.items()}
    return f"--input '{json.dumps(values)}'"


def _ones(axes: tuple[object, ...]) -> list[object]:
    row: object = 1.0
    for axis in reversed(axes):
        row = [row] * (axis if isinstance(axis, int) else 1)
    return [row]
