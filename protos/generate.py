"""Owns the generated half of `mercato.v1`: writes the Python stubs beside the protos, or checks that they are current.

Runs in the generator's own environment (`make gen`, `make check`), whose protobuf is older than the server's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
PACKAGE = Path("mercato/v1")
COMMITTED = PROTOS / "src"
SCRIPTS = Path(sysconfig.get_path("scripts"))


def generate(into: Path) -> None:
    """Write messages, services and their type stubs for every proto of the package under `into`."""
    sources = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / PACKAGE).glob("*.proto"))
    includes = ["-I.", f"-I{sysconfig.get_path('purelib')}"]
    plugins = [f"--plugin=protoc-gen-{kind}={SCRIPTS / f'protoc-gen-{kind}'}" for kind in ("mypy", "mypy_grpc")]
    outputs = [f"--{kind}_out={into}" for kind in ("python", "grpc_python")]
    outputs += [f"--{kind}_out=quiet:{into}" for kind in ("mypy", "mypy_grpc")]
    protoc = [sys.executable, "-m", "grpc_tools.protoc"]
    subprocess.run([*protoc, *includes, *plugins, *outputs, *sources], cwd=PROTOS, check=True)


def contents(root: Path) -> dict[str, bytes]:
    """Return the generated files under `root` by name."""
    return {path.name: path.read_bytes() for path in (root / PACKAGE).glob("*_pb2*")}


def stale() -> list[str]:
    """Return the names of committed files that differ from fresh ones, are missing or have no proto any more."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = contents(Path(folder))
    committed = contents(COMMITTED)
    return sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))


def rewrite() -> None:
    """Replace every generated file; what is written by hand (`py.typed`) stays."""
    for name in contents(COMMITTED):
        (COMMITTED / PACKAGE / name).unlink()
    generate(COMMITTED)


def main() -> str | None:
    """Rewrite the committed files, or with `--check` return a message when they are stale."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a committed file is stale")
    if not parser.parse_args().check:
        rewrite()
        return None
    names = stale()
    return f"stale generated code: {', '.join(names)}; run `make gen` and commit the result" if names else None


if __name__ == "__main__":
    sys.exit(main())
