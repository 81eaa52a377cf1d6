"""What of a server's settings names nothing that is there, and what `strict` does not accept."""

import stat
from collections.abc import Iterator
from pathlib import Path

from mercato_server.config import ANY, Settings
from mercato_server.contract.plugin import Refusal
from mercato_server.contract.state import State
from mercato_server.control.lifecycle import UNWANTED
from mercato_server.serving.catalog import Catalog


def failures(settings: Settings, catalog: Catalog) -> list[str]:
    """What `strict` does not accept: plugins refused though the operator wants them, failures, stray overrides.

    And labels that could not be set for the gates.
    """
    refused = [refusal for refusal in catalog.refused if refusal.code not in UNWANTED]
    failed = [version for version in catalog.versions() if version.status.state is State.FAILED]
    return [
        *map(_refused, refused),
        *(f"{version.name} version {version.number}: {version.status.reason}" for version in failed),
        *strays(settings, catalog),
        *catalog.barred,
    ]


def strays(settings: Settings, catalog: Catalog) -> list[str]:
    """Settings and rows of models that are not there, and labels and numbers of versions that are not there."""
    installed = _installed(catalog)
    return [
        *_stray_folder(settings),
        *(
            f"[models.{name!r}] names a model that is not installed"
            for name in sorted(settings.models.keys() - installed)
        ),
        *_stray_versions(settings, catalog),
        *(
            f"gate {gate.text} is of model {gate.model!r}, which is not installed"
            for gate in settings.gates()
            if gate.model and gate.model not in {*installed, *settings.models}
        ),
        *(
            f"[[access]] the row of {row.principal!r} names model {name!r}, which is not installed"
            for row in settings.access or ()
            for name in row.models
            if name != ANY and name not in installed
        ),
    ]


def _refused(refusal: Refusal) -> str:
    where = f" ({refusal.what})" if refusal.model else ""
    return f"{refusal.plugin.distribution}: {refusal.reason}{where}"


def _installed(catalog: Catalog) -> set[str]:
    """Models by name, those among them that no version is served of."""
    refused, untrained = (r.model for r in catalog.refused), (u.model for u in catalog.untrained)
    return {*catalog.models, *refused, *untrained}


def _stray_folder(settings: Settings) -> Iterator[str]:
    if settings.models_dir is not None and (fault := _fault_of(settings.models_dir)):
        yield f"models_dir names {fault}; name the folder that has one of each model"


def _fault_of(folder: Path) -> str:
    """What is wrong with a path that is to be a folder, "" for one."""
    try:
        return "" if stat.S_ISDIR(folder.stat().st_mode) else "what is no folder"
    except (FileNotFoundError, NotADirectoryError):
        return "a folder that does not exist"
    except OSError as error:
        return f"a folder that cannot be read: {error.strerror}"
    except ValueError as error:  # a zero byte
        return f"a folder that cannot be read: {error}"


def _stray_versions(settings: Settings, catalog: Catalog) -> Iterator[str]:
    for name, given in settings.models.items():
        if name not in _installed(catalog):
            continue
        served = catalog.models.get(name, {})
        for label, number in given.labels.items():
            if number not in served:
                yield f"[models.{name!r}] label {label!r} means version {number}, which is not installed"
        for number in given.versions or ():
            if number not in served:
                yield f"[models.{name!r}] versions names {number}, which has no model folder that can be served"
