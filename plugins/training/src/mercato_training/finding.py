"""Which installed plugin offers a model: entry points are loaded one by one until it is found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import SimpleNamespace
from typing import Any

import pluggy

from mercato_plugin import GROUP, Model, hooks
from mercato_training.errors import TrainingError
from mercato_training.options import plugin_settings


@dataclass(frozen=True)
class Trainable:
    """A model, what it is called, its distribution and its settings."""

    name: str
    model: Model
    distribution: str
    version: str
    settings: Any

    def method(self, name: str) -> Callable[..., Any]:
        """`train` or `evaluate`, an import string resolved. Raises TrainingError for a model that has none."""
        found: Any = getattr(self.model, name)
        if isinstance(found, str):
            return self._imported(found)
        if getattr(type(self.model), name) is getattr(Model, name):
            raise TrainingError(f"model {self.name!r} of {self.distribution} defines no {name}")
        return found  # type: ignore[no-any-return]

    def _imported(self, text: str) -> Callable[..., Any]:
        module, _, attribute = text.partition(":")
        try:
            return getattr(import_module(module), attribute)  # type: ignore[no-any-return]
        except ModuleNotFoundError as error:
            raise TrainingError(
                f"model {self.name!r} cannot be trained here: {error.name} is not installed; "
                f"install '{self.distribution}[build]'"
            ) from error


def find(name: str) -> Trainable:
    """The model of that name. Raises TrainingError naming those that there are."""
    names, broken = [], []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            offered = list(_models(entry))
        except TrainingError:
            raise
        except Exception as error:  # a plugin's own code; another may have the model
            broken.append(f"{entry.name}: {type(error).__name__}")
            continue
        for found in offered:
            if found.name == name:
                return found
            names.append(found.name)
    refused = f"; not loaded: {', '.join(broken)}" if broken else ""
    raise TrainingError(f"model {name!r} is not installed; there are {', '.join(sorted(names)) or 'none'}{refused}")


def _models(entry: EntryPoint) -> Iterator[Trainable]:
    manager = pluggy.PluginManager("mercato")
    manager.add_hookspecs(hooks)
    manager.register(entry.load(), entry.name)
    distribution = entry.dist.name if entry.dist else entry.name
    version = entry.dist.version if entry.dist else ""
    for models in manager.hook.mercato_models():
        for model in models:
            settings = plugin_settings(distribution, model.settings)
            yield Trainable(_name(model, settings), model, distribution, version, settings)


def _name(model: Model, settings: Any) -> str:
    if model.name:
        return model.name
    facts = SimpleNamespace(files=None, version=None, settings=settings)
    return str((model.spec(facts) if callable(model.spec) else model.spec).name)
