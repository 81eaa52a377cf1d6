"""Shows that no installed module reads code from data, and that modules and functions keep to the style's figures."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve", "yaml"}
CALLS = {"eval", "exec", "torch.load"}
METHODS = {"extract", "extractall"}
LONGEST_MODULE = 350
MEDIAN_BODY = 6
NINE_IN_TEN = 25


def names(tree: ast.Module) -> dict[str, str]:
    """Return what each imported name stands for, in full."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {item.asname or item.name.partition(".")[0]: item.name for item in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {item.asname or item.name: f"{node.module}.{item.name}" for item in node.names}
    return found


def full_name(node: ast.expr, known: dict[str, str]) -> str:
    """Return the dotted name that an expression stands for, or an empty string."""
    if isinstance(node, ast.Name):
        return known.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{full_name(node.value, known)}.{node.attr}"
    return ""


def unpickles(call: ast.Call) -> bool:
    """Tell whether a call allows pickled content."""
    return any(
        item.arg == "allow_pickle" and not (isinstance(item.value, ast.Constant) and item.value.value is False)
        for item in call.keywords
    )


def forbidden(source: str) -> Iterator[str]:
    """Yield every construct of a module that would turn data into code or write where an archive says."""
    tree = ast.parse(source)
    known = names(tree)
    yield from sorted(name for name in known.values() if name.partition(".")[0] in MODULES)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = full_name(node.func, known)
            if name in CALLS or name.rpartition(".")[2] in METHODS or unpickles(node):
                yield f"{name} in line {node.lineno}"


def bodies(tree: ast.Module) -> Iterator[int]:
    """Yield the length of each function's body in lines, docstring left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            yield (body[-1].end_lineno or 0) - body[0].lineno + 1


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import yaml as settings",
        "import torch\ntorch.load('x')",
        "from torch import load as read\nread('x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import tarfile\ntarfile.open('x').extractall('y')",
        "eval('1')",
    ],
)
def test_the_search_finds(source: str) -> None:
    assert list(forbidden(source))


def test_the_search_passes_what_is_harmless() -> None:
    assert list(forbidden("import numpy as np\nnp.load('x', allow_pickle=False)\nmodel.eval()")) == []


def test_no_module_turns_data_into_code(sources: list[Path]) -> None:
    assert {str(path): found for path in sources if (found := list(forbidden(path.read_text("utf-8"))))} == {}


def test_every_module_says_what_it_owns(sources: list[Path]) -> None:
    assert [str(path) for path in sources if not ast.get_docstring(ast.parse(path.read_text("utf-8")))] == []


def test_no_module_is_too_long(sources: list[Path]) -> None:
    lengths = {str(path): len(path.read_text("utf-8").splitlines()) for path in sources}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_MODULE} == {}


def test_functions_are_short(sources: list[Path]) -> None:
    lines = [length for path in sources for length in bodies(ast.parse(path.read_text("utf-8")))]
    assert statistics.median(lines) <= MEDIAN_BODY
    assert statistics.quantiles(lines, n=10)[-1] <= NINE_IN_TEN
