"""A plugin of a benchmark's own: a distribution in a folder of PYTHONPATH, and the server's environment with it."""

import os
from pathlib import Path


def install(folder: Path, distribution: str, source: str) -> None:
    """Put a distribution of one module into the folder, in place of any other source of it."""
    module = distribution.replace("-", "_")
    facts = folder / f"{module}-1.0.dist-info"
    facts.mkdir(parents=True, exist_ok=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n", "utf-8")
    (facts / "entry_points.txt").write_text(f"[mercato.plugins]\n{module} = {module}\n", "utf-8")
    (folder / f"{module}.py").write_text(source, "utf-8")


def environment(folder: Path, *allowed: str) -> dict[str, str]:
    """What a server needs to find what is installed in the folder; only the distributions named are loaded."""
    return {
        "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONDONTWRITEBYTECODE": "1",  # two sources written within a second look the same to a cache
        "MERCATO_PLUGINS_ALLOW": ",".join(allowed),
    }
