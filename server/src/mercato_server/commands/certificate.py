"""`mercato certificate`: the proof that a model's graph is what its source is."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from mercato_server import config
from mercato_server.commands import tables
from mercato_server.commands.failure import fail
from mercato_server.commands.installed import MODELS_DIR_HELP, chosen, installed
from mercato_server.contract.artifact import Artifact
from mercato_server.contract.certificate import Certificate
from mercato_server.errors import ConfigError, ExportFailed, StartupError
from mercato_server.store import Store
from mercato_server.store.offered import key_of

_KINDS = {
    "source": "source: held against the source itself in float64",
    "recorded": "recorded: held against answers recorded from the source",
    "self": "self: unproven, only the graph's own invariances were tried",
}


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of an installed model.")],
    version: Annotated[int | None, typer.Option(min=1, help="This version; the highest when left out.")] = None,
    store: Annotated[Path | None, typer.Option(help="Folder of the exported artifacts.")] = None,
    models_dir: Annotated[Path | None, typer.Option(help=MODELS_DIR_HELP)] = None,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Print what was tried on an exported model and how far the graph was from its source."""
    try:
        artifact = _stored(config.load(store=store, models_dir=models_dir), model, version)
    except StartupError as error:
        fail("certificate", error)
    if json_output:
        facts = {"model": model, "version": artifact.spec.version, "digest": artifact.digest}
        print(json.dumps({**facts, **artifact.certificate.to_json()}, indent=2))
    else:
        _show(artifact)


def _stored(settings: config.Settings, model: str, version: int | None) -> Artifact:
    by_version = {offered.spec.version: offered for offered in chosen(installed(settings), [model])}
    number = max(by_version) if version is None else version
    if number not in by_version:
        have = ", ".join(map(str, sorted(by_version)))
        raise ConfigError(f"model {model!r} has no version {number} that is served; there are {have}")
    artifact = Store(settings.store).find(key_of(by_version[number]))
    if artifact is None:
        raise ExportFailed(f"model {model!r}, as installed and configured, is not stored; run: mercato export {model}")
    return artifact


def _show(artifact: Artifact) -> None:
    certificate = artifact.certificate
    tables.show(("", ""), _facts(artifact, certificate))
    errors = [(e.output, f"{e.rel_l2:.3g}", f"{e.tolerance:.3g}", f"{e.max_abs:.3g}") for e in certificate.errors]
    tables.show(("output", "largest relative L2 error", "tolerance", "largest absolute error"), errors)
    checks = Counter(case.check for case in certificate.cases)
    tables.show(("check", "comparisons"), [(check, str(count)) for check, count in sorted(checks.items())])


def _facts(artifact: Artifact, certificate: Certificate) -> list[tuple[str, str]]:
    return [
        ("model", f"{artifact.spec.name} {artifact.spec.version}"),
        ("digest", artifact.digest),
        ("kind", _KINDS[certificate.kind]),
        ("opset", str(certificate.opset)),
        ("provider", certificate.provider),
        ("tools", ", ".join(f"{name} {number}" for name, number in sorted(certificate.tools.items()))),
    ]
