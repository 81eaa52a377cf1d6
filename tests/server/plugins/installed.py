"""Writes distributions as pip leaves them: a package and its dist-info."""

from collections.abc import Sequence
from pathlib import Path

HEADER = """
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mercato_plugin import BuildContext, Example, Model, ModelSpec, Secret, Tensor, hookimpl, setting

X = Tensor("float32", ("batch", 2))
SPEC = ModelSpec(name="shop.NAME", inputs={"x": X}, outputs={"y": X})


class Made(Model):
    spec = SPEC

"""

HOOK = """

@hookimpl
def mercato_models():
    return [Made()]
"""


def install(
    site: Path,
    name: str,
    code: str,
    *,
    version: str = "1.0",
    requires: Sequence[str] = (),
    entry_point: str | None = None,
) -> None:
    """One distribution `name` whose package holds `code`; its entry point names the package."""
    package = name.replace("-", "_").lower()
    (site / package).mkdir()
    (site / package / "__init__.py").write_text(code, encoding="utf-8")
    info = site / f"{package}-{version}.dist-info"
    info.mkdir()
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
    (info / "entry_points.txt").write_text(f"[mercato.plugins]\n{entry_point or package} = {package}\n")
    (info / "RECORD").write_text(f"{package}/__init__.py,,\n")


def plugin(model: str, body: str = "    pass", hook: str = HOOK) -> str:
    """A plugin's code: class `Made` of `shop.<model>` with `body` (indented), behind the usual hook."""
    return HEADER.replace("NAME", model) + body + hook
