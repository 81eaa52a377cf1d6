"""`mercato admin`: load, unload, label and drain on a running server, and its workers, through its admin listener."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from mercato_client.errors import InvalidInput, Violation
from mercato_plugin.spec import MAX_VERSION
from mercato_server import config
from mercato_server.commands import tables
from mercato_server.commands.failure import fail
from mercato_server.commands.progress import ExportProgress
from mercato_server.contract.administration import LoadStep, WorkerFacts
from mercato_server.contract.state import State
from mercato_server.errors import ConfigError
from mercato_server.export.request import Progress, Step
from mercato_server.rpc.admin_client import AdminClient
from mercato_server.serving.catalog import shown

MIB = 1024 * 1024

app = typer.Typer(
    help="Load, unload and label models of a running server, drain it, or list its workers.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

ModelArgument = Annotated[str, typer.Argument(help="Name of the model.")]
PortOption = Annotated[int | None, typer.Option(min=1, max=65535, help="Data port of the server of this user.")]
AdminOption = Annotated[
    str | None, typer.Option("--admin", metavar="ADDRESS", help="unix:PATH or host:port; wins over --port.")
]
TimeoutOption = Annotated[float | None, typer.Option(min=0, metavar="SECONDS", help="Longest wait for the answer.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


@app.command("load")
def load(
    model: Annotated[str, typer.Argument(help="Name of a model that the server knows.")] = "",
    plugin: Annotated[str, typer.Option(metavar="NAME", help="All models of an installed distribution.")] = "",
    version: Annotated[
        int | None, typer.Option(min=1, max=MAX_VERSION, help="This version of the model alone.")
    ] = None,
    port: PortOption = None,
    admin: AdminOption = None,
    timeout: TimeoutOption = None,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON line per step on standard output.")] = False,
) -> None:
    """Load a model or a plugin as it is installed now, beside what serves, and swap it in."""
    if bool(model) == bool(plugin):
        raise InvalidInput.of(Violation("MODEL", "expected the name of a model, or --plugin with that of a plugin"))
    if plugin and version is not None:
        raise InvalidInput.of(Violation("--version", "expected with the name of a model, not with --plugin"))
    outcome = Outcome()
    with _client(admin, port, timeout) as client:
        steps = outcome.of(client.load(model=model, version=version, plugin=plugin))
        if json_output:
            for step in steps:
                print(json.dumps({**vars(step), "state": step.state.value}), flush=True)
        else:
            _show_steps(steps)
            if summary := outcome.summary:
                print(summary)
    if outcome.failed:
        raise typer.Exit(1)


@app.command("unload")
def unload(
    model: ModelArgument,
    version: Annotated[
        int | None, typer.Option(min=1, max=MAX_VERSION, help="This version; all of them when left out.")
    ] = None,
    port: PortOption = None,
    admin: AdminOption = None,
    timeout: TimeoutOption = None,
    json_output: JsonOption = False,
) -> None:
    """Let a model finish what it has accepted, unload it, and give its memory back."""
    with _client(admin, port, timeout) as client:
        unloaded = client.unload(model, version)
    if json_output:
        print(json.dumps({"model": model, "versions": list(unloaded.versions), "memory_bytes": unloaded.nbytes}))
        return
    if not unloaded.versions:
        print(f"{model}{f' version {version}' if version else ''} was unloaded already")
        return
    numbers = ", ".join(map(str, unloaded.versions))
    print(f"unloaded {model} version {numbers}; {_mib(unloaded.nbytes)} MiB given back")


@app.command("label")
def label(
    model: ModelArgument,
    name: Annotated[str, typer.Argument(metavar="LABEL", help="Such as stable or canary.")],
    version: Annotated[int | None, typer.Option(min=1, max=MAX_VERSION, help="The version that it shall mean.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the label away.")] = False,
    port: PortOption = None,
    admin: AdminOption = None,
    timeout: TimeoutOption = None,
    json_output: JsonOption = False,
) -> None:
    """Move a label of a model to a version that is AVAILABLE, or take it away."""
    if (version is None) != remove:
        raise InvalidInput.of(Violation("--version", "expected the version that the label shall mean, or --remove"))
    with _client(admin, port, timeout) as client:
        labels = client.set_label(model, name, version)
    if json_output:
        print(json.dumps({"model": model, "labels": dict(labels)}))
    else:
        print(
            f"labels of {model}: {', '.join(f'{key} = {number}' for key, number in sorted(labels.items())) or 'none'}"
        )


@app.command("drain")
def drain(
    port: PortOption = None, admin: AdminOption = None, timeout: TimeoutOption = None, json_output: JsonOption = False
) -> None:
    """End the server as SIGTERM does: it finishes what it has accepted and refuses what comes."""
    with _client(admin, port, timeout) as client:
        requests = client.drain()
    print(json.dumps({"requests": requests}) if json_output else f"the server drains; {requests} requests are open")


@app.command("workers")
def workers(
    port: PortOption = None, admin: AdminOption = None, timeout: TimeoutOption = None, json_output: JsonOption = False
) -> None:
    """List the workers of a server with process, models, memory and restarts."""
    with _client(admin, port, timeout) as client:
        found = client.workers()
    if json_output:
        print(json.dumps([_document(worker) for worker in found], indent=2))
        return
    columns = ("plugin", "pid", "isolation", "MiB", "restarts", "last crash")
    tables.show(columns, [_cells(worker) for worker in found], title="Workers")
    tables.show(("model", "version", "state", "MiB", "plugin"), _models(found), title="Models")


def _client(admin: str | None, port: int | None, timeout: float | None) -> AdminClient:
    try:
        address = _address(admin, port)
    except ConfigError as error:
        fail("admin", error, 2)
    return AdminClient(address, timeout)


def _address(admin: str | None, port: int | None) -> str:
    """What was asked for, else what the settings say of the server that is started with them."""
    if admin is not None:
        if admin == config.UNIX or not config.is_admin_listen(admin):
            raise ConfigError(f"--admin: got {shown(admin)}, expected unix:PATH with an absolute path, or host:port")
        return admin
    if port is not None:
        return config.admin_address(config.UNIX, port)
    settings = config.load()
    if settings.admin_listen == config.OFF:
        raise ConfigError("admin_listen is off; --admin or --port names another server")
    number = int(settings.listen.rpartition(":")[2])
    address = config.admin_address(settings.admin_listen, number)
    if address.endswith(":0") or (settings.admin_listen == config.UNIX and not number):
        raise ConfigError("the settings leave the port to the system; --admin or --port names the server")
    return address


class Outcome:
    """What has come of each version of a load: the steps are noted as they pass."""

    def __init__(self) -> None:
        self._begun: set[tuple[str, int]] = set()
        self._last: dict[tuple[str, int], State] = {}

    def of(self, steps: Iterable[LoadStep]) -> Iterator[LoadStep]:
        """The same steps."""
        for step in steps:
            if step.state is State.LOADING:
                self._begun.add((step.model, step.version))
            self._last[step.model, step.version] = step.state
            yield step

    @property
    def failed(self) -> bool:
        """Whether a version has failed."""
        return State.FAILED in self._last.values()

    @property
    def summary(self) -> str:
        """What was loaded, "" where nothing was and the failures are told."""
        loaded = [f"{model} {number}" for model, number in self._last if self._has_loaded(model, number)]
        if loaded:
            return f"loaded {', '.join(loaded)}"
        return "" if self.failed else "nothing to load: what is installed serves already"

    def _has_loaded(self, model: str, number: int) -> bool:
        return (model, number) in self._begun and self._last[model, number] is State.AVAILABLE


def _show_steps(steps: Iterable[LoadStep]) -> None:
    with ExportProgress(Console(stderr=True)) as bars:
        for step in steps:
            if step.step:
                bars.update(step.model, Progress(cast(Step, step.step), step.done, step.total))
                continue
            bars.stop()
            print(
                f"{step.model} {step.version}: {step.state.value}{f': {step.reason}' if step.reason else ''}",
                flush=True,
            )


def _cells(worker: WorkerFacts) -> tuple[str, ...]:
    plugin, crash = f"{worker.plugin.distribution} {worker.plugin.version}", worker.last_crash or "-"
    return plugin, str(worker.pid), worker.isolation, _mib(worker.nbytes), str(worker.restarts), crash


def _models(workers: Iterable[WorkerFacts]) -> Iterator[tuple[str, ...]]:
    for worker in workers:
        for m in worker.models:
            yield m.model, str(m.version), m.state.value, _mib(m.nbytes), worker.plugin.distribution


def _document(worker: WorkerFacts) -> dict[str, Any]:
    models = [
        {"model": m.model, "version": m.version, "state": m.state.value, "memory_bytes": m.nbytes}
        for m in worker.models
    ]
    return {
        "plugin": worker.plugin.distribution,
        "plugin_version": worker.plugin.version,
        "isolation": worker.isolation,
        "pid": worker.pid,
        "started": datetime.fromtimestamp(worker.started, UTC).isoformat(timespec="milliseconds"),
        "restarts": worker.restarts,
        "last_crash": worker.last_crash,
        "memory_bytes": worker.nbytes,
        "models": models,
    }


def _mib(nbytes: int) -> str:
    return f"{nbytes / MIB:.1f}"
