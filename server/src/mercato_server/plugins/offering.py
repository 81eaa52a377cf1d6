"""What one model object of a plugin has to offer: a version for each model folder that is served, or its own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mercato_plugin import FolderError, Model, ModelFolder, ModelSpec
from mercato_plugin.frozen import schema_fingerprint
from mercato_plugin.spec import MAX_NAME, MODEL_NAME
from mercato_server.contract.plugin import Discovery, Folders, OfferedModel, PluginInfo, Refusal, Trained, Untrained
from mercato_server.errors import PluginRefused
from mercato_server.plugins import compat
from mercato_server.plugins.filling import filled
from mercato_server.plugins.guard import guarded


@dataclass(frozen=True)
class SpecFacts:
    """What `spec(ctx)` gets."""

    files: Path | None
    version: int | None
    settings: Any


@dataclass(frozen=True)
class Offering:
    """One model object, to be asked once. `given` is what the operator set for its distribution."""

    info: PluginInfo
    model: Model
    given: Mapping[str, Any]
    folders: Folders

    def enter(self, found: Discovery) -> str:
        """Add what it has, and give its name. Raises PluginRefused; what is wrong with one version refuses it alone."""
        self._check()
        settings = filled(self.info, self.model, self.given)
        own = None if self.model.name else self._spec(SpecFacts(None, None, settings), type(self.model).__name__)
        name = self.model.name if own is None else own.name
        with self._refused_alone(found, name):
            folders = self.folders(name)
            if folders is not None:
                self._enter_versions(found, name, folders, settings)
            elif own is not None:
                found.models.append(OfferedModel(self.info, self.model, own, settings, self.given))
            else:
                found.untrained.append(Untrained(self.info, name, self._trains))
        return name

    @property
    def _trains(self) -> bool:
        """Whether `mercato train` can train it: `train` is an import string, or defined."""
        train: Any = self.model.train
        return isinstance(train, str) or type(self.model).train is not Model.train

    def _check(self) -> None:
        kind, name = type(self.model), self.model.name
        compat.check_declared(self.info, kind.__name__, self.model.api_version)
        if kind.stream is not Model.stream:
            raise self._refused("STREAM_UNSUPPORTED", f"{kind.__name__} defines stream, which is not served yet")
        if name and not (MODEL_NAME.fullmatch(name) and len(name) <= MAX_NAME):
            expected = f"two lower-case words with one dot, at most {MAX_NAME} characters"
            raise self._refused("SPEC_INVALID", f"{kind.__name__}.name is {name!r}, expected {expected}")

    def _enter_versions(
        self, found: Discovery, name: str, folders: Mapping[int, ModelFolder | FolderError], settings: Any
    ) -> None:
        for version, folder in folders.items():
            with self._refused_alone(found, name, version):
                if isinstance(folder, FolderError):
                    raise folder
                spec = self._trained_spec(name, folder, settings)
                trained = Trained.of(folder)
                found.models.append(OfferedModel(self.info, self.model, spec, settings, self.given, trained))

    def _trained_spec(self, name: str, folder: ModelFolder, settings: Any) -> ModelSpec:
        where = f"{name} version {folder.version}"
        spec = self._spec(SpecFacts(folder.files, folder.version, settings), where)
        if spec.name != name:
            raise self._refused("SPEC_INVALID", f"the specification of {where} has the name {spec.name!r}")
        return replace(spec, version=folder.version)

    def _spec(self, facts: SpecFacts, where: str) -> ModelSpec:
        given: Any = None
        with guarded(self.info, "SPEC_INVALID", f"has an invalid specification of {where}"):
            given = self._given(facts, where)
        if not isinstance(given, ModelSpec):
            raise self._refused(
                "SPEC_INVALID", f"{type(self.model).__name__}.spec is {type(given).__name__}, not ModelSpec"
            )
        with guarded(self.info, "SPEC_INVALID", f"has an invalid specification of {given.name}"):
            _ = given.graphs, schema_fingerprint(given)
        return given

    def _given(self, facts: SpecFacts, where: str) -> Any:
        """Whatever `spec` is. Raises PluginRefused for what it finds wrong with a model folder."""
        try:
            return self.model.spec(facts) if callable(self.model.spec) else self.model.spec
        except FolderError as error:
            if facts.version is None:
                raise
            raise self._refused("FOLDER_DAMAGED", f"model folder of {where}: {error}") from error

    def _refused(self, code: str, what: str) -> PluginRefused:
        return PluginRefused(code, f"{self.info.distribution}: {what}")

    @contextmanager
    def _refused_alone(self, found: Discovery, model: str, version: int = 0) -> Iterator[None]:
        try:
            yield
        except FolderError as error:
            found.refused.append(Refusal(self.info, "FOLDER_DAMAGED", str(error), model, version))
        except PluginRefused as error:
            found.refused.append(Refusal(self.info, error.code, str(error), model, version))
