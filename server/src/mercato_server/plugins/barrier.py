"""The barrier that keeps build tools out of a serving process."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

BUILD_TOOLS = ("torch", "sklearn", "onnx")


class BuildToolBarred(ImportError):
    """A build tool was about to be imported; `name` says which."""


class _Barrier(MetaPathFinder, Loader):
    """Finds build tools before Python does, and refuses to run them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in BUILD_TOOLS else None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        text = f"{name} must not enter a serving process; move the import into build or train"
        raise BuildToolBarred(text, name=name)


@contextlib.contextmanager
def barred_build_tools() -> Iterator[None]:
    """Imports of build tools raise BuildToolBarred meanwhile; one that the process has already is left alone."""
    barrier = _Barrier()
    sys.meta_path.insert(0, barrier)
    try:
        yield
    finally:
        sys.meta_path.remove(barrier)


def barred_tool(error: BaseException | None) -> str:
    """The build tool whose import led to this error, or ""."""
    while error is not None:
        if isinstance(error, BuildToolBarred):
            return error.name or ""
        error = error.__cause__ or error.__context__
    return ""
