"""One export from start to end: load the plugin, build, export, certify, publish."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from mercato_plugin import Example, FolderError, ModelFolder, ModelSpec, read_folder
from mercato_plugin.frozen import freeze
from mercato_server.contract.artifact import Artifact
from mercato_server.contract.certificate import Certificate
from mercato_server.contract.plugin import OfferedModel
from mercato_server.contract.summary import summary
from mercato_server.errors import ExportFailed, MercatoError
from mercato_server.export.certificate import Subject, certify, tools_of
from mercato_server.export.context import ExportContext
from mercato_server.export.exporter import export_graphs
from mercato_server.export.request import ExportRequest, Progress, Step
from mercato_server.export.tools import usable
from mercato_server.plugins.host import load_one
from mercato_server.runtime import examples as frozen_examples
from mercato_server.store import Store

Report = Callable[[Progress], None]


def run(request: ExportRequest, report: Report) -> Artifact:
    """Export the model that the request names. Raises ExportFailed, ParityFailed or PluginRefused.

    What another process published while this one waited for its turn is used as it is.
    """
    store = Store(request.store)
    with store.lock("export"):
        if (already := usable(store, request.key)) is not None:
            return already
        store.sweep()
        return export_offered(find_offered(request), request, store, report)


def find_offered(request: ExportRequest) -> OfferedModel:
    """The model among those its plugin offers, built from the model folder that the request names, if it names one.

    Raises ExportFailed, also for a folder that is not as training left it.
    """
    folder = _verified_folder(request)
    found = load_one(request.plugin, lambda _: request.settings, lambda model: _only(folder, model))
    for candidate in found.models:
        if candidate.spec.name == request.model:
            return candidate
    for refusal in found.refused:
        if refusal.model == request.model:
            raise ExportFailed(refusal.reason)
    raise ExportFailed(f"plugin {request.plugin.distribution!r} no longer offers model {request.model!r}")


def export_offered(offered: OfferedModel, request: ExportRequest, store: Store, report: Report) -> Artifact:
    """Build, export, certify and publish one model."""
    with store.staging() as staging, store.staging() as work:
        context = _context(offered, request, staging / "files", work)
        report(Progress("build", 0, 1))
        built = _build(offered, context)
        examples = _examples(offered, context)
        report(Progress("build", 1, 1))
        graphs = export_graphs(built, offered.spec, staging / "graphs", request.files, _step(report, "export"))
        subject = Subject(offered.model, offered.spec, graphs, context.saved, offered.settings, examples)
        certificate = certify(subject, _step(report, "certify"))
        report(Progress("store", 0, 1))
        _describe(staging, offered.spec, certificate, examples)
        artifact = store.publish(
            staging,
            request.key,
            model=request.model,
            plugin=request.plugin.distribution,
            plugin_version=request.plugin.version,
            tools=tools_of(graphs),
        )
        report(Progress("store", 1, 1))
        return artifact


def _step(report: Report, step: Step) -> Callable[[int, int], None]:
    return lambda done, total: report(Progress(step, done, total))


def _verified_folder(request: ExportRequest) -> ModelFolder | None:
    """The folder, every file of it held against its manifest, and the manifest against what was asked for."""
    if request.version is None or request.files is None:
        return None
    where = f"model {request.model!r} version {request.version}"
    try:
        folder = read_folder(request.files.parent.parent.parent, request.model, request.version)
        folder.verify()
    except FolderError as error:
        raise ExportFailed(f"{where}: {error}") from error
    if folder.digest != request.folder:
        raise ExportFailed(f"{where}: another model folder stands in its place since it was found; load it again")
    return folder


def _only(folder: ModelFolder | None, model: str) -> Mapping[int, ModelFolder] | None:
    return {folder.version: folder} if folder is not None and folder.model == model else None


def _context(offered: OfferedModel, request: ExportRequest, saved: Path, work: Path) -> ExportContext:
    saved.mkdir()
    return ExportContext(offered.spec, request.files, request.version, offered.settings, saved, work)


def _build(offered: OfferedModel, context: ExportContext) -> Any:
    """What the author's `build` returns; an import string is resolved first."""
    build: Any = offered.model.build
    with _blame(offered, "build"):
        if isinstance(build, str):
            module, _, attribute = build.partition(":")
            build = getattr(import_module(module), attribute)
        return build(context)


def _examples(offered: OfferedModel, context: ExportContext) -> list[Example]:
    with _blame(offered, "examples"):
        return list(offered.model.examples(context))


@contextmanager
def _blame(offered: OfferedModel, method: str) -> Iterator[None]:
    """Turn what the author's code raises into ExportFailed, naming the method."""
    try:
        yield
    except MercatoError:
        raise
    except (Exception, SystemExit) as error:
        raise ExportFailed(f"model {offered.spec.name!r}: {method} raised {summary(error)}") from error


def _describe(folder: Path, spec: ModelSpec, certificate: Certificate, examples: list[Example]) -> None:
    """Write what stands beside graphs and files in an artifact."""
    # Not sorted: callers see inputs and outputs in the order in which the author declared them.
    (folder / "spec.json").write_text(json.dumps(freeze(spec)))
    (folder / "certificate.json").write_text(json.dumps(certificate.to_json(), indent=1))
    (folder / "examples.json").write_bytes(frozen_examples.freeze(spec, examples))
