"""Which plugins are installed: read from metadata alone, nothing is imported."""

import hashlib
import importlib.util
from collections.abc import Iterator
from importlib.metadata import EntryPoint, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mercato_plugin import GROUP
from mercato_server.contract.plugin import PluginInfo


def installed(name: str | None = None) -> list[PluginInfo]:
    """Every distribution with an entry point in the group, ordered by name; with a `name` that one alone."""
    found: dict[tuple[str, str], PluginInfo] = {}
    for distribution in distributions() if name is None else distributions(name=name):
        if "Name" not in distribution.metadata:
            continue  # what an interrupted uninstallation left behind
        for entry_point in distribution.entry_points.select(group=GROUP):
            info = _info(distribution.name, distribution.version, entry_point)
            # The first on the path is the one that Python imports; later copies are shadowed.
            found.setdefault((info.distribution, info.entry_point), info)
    return sorted(found.values(), key=lambda info: (info.distribution, info.entry_point))


def interface_requirement(info: PluginInfo) -> Requirement | None:
    """What the plugin's metadata demands of `mercato-plugin`, if it names it."""
    for distribution in distributions(name=info.distribution):
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if canonicalize_name(requirement.name) == "mercato-plugin" and _applies(requirement):
                return requirement
    return None


def source_hash(info: PluginInfo) -> str:
    """SHA-256 over the plugin's package: every file's path and content, caches left out.

    It reads the files that Python would import, so an editable installation is covered too.
    """
    digest = hashlib.sha256()
    for name, path in _sources(info.module.partition(".")[0]):
        digest.update(f"{name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _info(name: str, version: str, entry_point: EntryPoint) -> PluginInfo:
    return PluginInfo(canonicalize_name(name), version, entry_point.name, entry_point.value)


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _sources(package: str) -> Iterator[tuple[str, Path]]:
    found = importlib.util.find_spec(package)
    if found is None:
        return
    if found.submodule_search_locations is None:
        yield package, Path(found.origin or "")
        return
    for root in map(Path, found.submodule_search_locations):
        files = (path for path in sorted(root.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
        yield from ((path.relative_to(root).as_posix(), path) for path in files)
