"""Owns environments outside the clone: our wheels, and of everything else only what their metadata asks for.

Third-party distributions are linked in from the running environment: nothing is fetched, nothing undeclared helps.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def own_wheel(wheels: Path, name: str) -> Path | None:
    """Return our wheel of a distribution, or None when it is somebody else's."""
    return next(wheels.glob(f"{name.replace('-', '_')}-*.whl"), None)


def asked_by(wheels: Path, requirement: Requirement) -> list[Requirement]:
    """Return what a distribution asks for here, with the extras of the requirement."""
    wheel = own_wheel(wheels, requirement.name)
    found = next(iter(metadata.distributions(path=[str(wheel)]))) if wheel else metadata.distribution(requirement.name)
    extras = requirement.extras or {""}
    asked = [Requirement(line) for line in found.requires or []]
    return [item for item in asked if not item.marker or any(item.marker.evaluate({"extra": e}) for e in extras)]


def closure(wheels: Path, *requirements: str) -> set[str]:
    """Return the names of all distributions that an installation of the requirements brings."""
    waiting = [Requirement(line) for line in requirements]
    seen: dict[str, set[str]] = {}
    while waiting:
        item = waiting.pop()
        extras = seen.get(canonicalize_name(item.name))
        if extras is None or item.extras - extras:
            seen[canonicalize_name(item.name)] = (extras or set()) | item.extras
            waiting += asked_by(wheels, item)
    return set(seen)


def link(name: str, into: Path) -> None:
    """Link every file of an installed distribution into another environment's packages."""
    for entry in metadata.distribution(name).files or []:
        if entry.parts[0] != "..":
            target = into / entry
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(entry.locate())


def install(folder: Path, wheels: Path, *requirements: str) -> Path:
    """Make an environment with the requirements and return its folder of commands."""
    venv.create(folder, with_pip=False, symlinks=True)
    commands = folder / "bin"
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    names = closure(wheels, *requirements)
    ours = [str(wheel) for name in names if (wheel := own_wheel(wheels, name))]
    for name in names:
        if not own_wheel(wheels, name):
            link(name, packages)
    pip = [sys.executable, "-m", "pip", "--python", str(commands / "python"), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-index", *ours], check=True)
    return commands
