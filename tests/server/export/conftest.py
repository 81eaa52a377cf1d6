"""Exports of small models in the test's own process: torch is imported once."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from mercato_plugin import BuildContext, Example, Model, ModelSpec
from mercato_server.contract.artifact import Artifact
from mercato_server.contract.plugin import OfferedModel, PluginInfo
from mercato_server.export import job
from mercato_server.export.request import ExportRequest, Progress
from mercato_server.store import Store

Export = Callable[..., Artifact]


class Made(Model):
    """A model whose parts a test hands in."""

    def __init__(self, spec: ModelSpec, build: Callable[[BuildContext], Any], examples: Iterable[Example]) -> None:
        self.spec = spec
        self._build = build
        self._examples = tuple(examples)

    def build(self, ctx: BuildContext) -> Any:
        return self._build(ctx)

    def examples(self, ctx: BuildContext) -> Iterable[Example]:
        return self._examples


@pytest.fixture
def progress() -> list[Progress]:
    return []


@pytest.fixture
def export(tmp_path: Path, progress: list[Progress]) -> Export:
    """Export what `build` returns under a specification, into a store of the test's own."""

    def run(
        spec: ModelSpec,
        build: Callable[[BuildContext], Any],
        examples: Iterable[Example] = (),
        *,
        files: Path | None = None,
        kind: type[Made] = Made,
    ) -> Artifact:
        info = PluginInfo("mercato-made", "1.0", "made", "made")
        offered = OfferedModel(info, kind(spec, build, examples), spec)
        request = ExportRequest(info, spec.name, tmp_path / "store", "a" * 64, files=files)
        return job.export_offered(offered, request, Store(request.store), progress.append)

    return run
