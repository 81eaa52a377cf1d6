"""Which execution provider runs the graphs: what was asked for, proven by a session that ran.

As a program it is that proof: `python -m mercato_server.runtime.providers cuda` writes why there is none, "" if it ran.
"""

import ctypes
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import numpy as np

from mercato_server.errors import ProviderUnavailable

ProviderChoice = Literal["auto", "cpu", "cuda", "tensorrt"]

ORT_NAMES = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}

# Longer than the slowest start of a driver and its libraries.
PROBE_SECONDS = 60.0

# y = x + x over one float: the smallest graph that shows whether a provider computes.
_PROBE = bytes.fromhex(
    "080a12003a350a0e0a01780a017812017922034164641201705a0f0a0178120a"
    "0a08080112040a020801620f0a0179120a0a08080112040a02080142040a001014"
)


@dataclass(frozen=True)
class Provider:
    """The provider in use, and why it is not a faster one (empty when it is the one asked for).

    `falls_back` says that a model which does not load on it may run on the CPU instead: the choice was `auto`.
    """

    name: Literal["cpu", "cuda", "tensorrt"]
    note: str = ""
    falls_back: bool = False


def choose(choice: ProviderChoice, *, apart: bool = False) -> Provider:
    """Settle the choice once per process; `apart` keeps onnxruntime out of this one.

    Raises ProviderUnavailable when `cuda` or `tensorrt` was asked for and does not come up; `auto`
    falls back to the CPU and says why.
    """
    refuse_two_wheels()
    if choice == "auto":
        reason = _missing("cuda", apart)
        return Provider("cpu", f"auto fell back to cpu: {reason}") if reason else Provider("cuda", falls_back=True)
    if choice != "cpu" and (reason := _missing(choice, apart)):
        raise ProviderUnavailable(f"provider {choice!r} does not come up: {reason}; use 'auto' or 'cpu', or mend it")
    return Provider(choice)


def refuse_two_wheels() -> None:
    """Both onnxruntime wheels own one import package and break each other."""
    if _installed("onnxruntime") and _installed("onnxruntime-gpu"):
        raise ProviderUnavailable(
            f"both onnxruntime {_installed('onnxruntime')} and onnxruntime-gpu {_installed('onnxruntime-gpu')} are "
            "installed and overwrite each other's files; uninstall both, then install one of them again"
        )


def session_providers(name: str) -> list[str]:
    """What to pass to onnxruntime for a provider; those behind it take the nodes it has no kernel for."""
    order = {"cpu": ["cpu"], "cuda": ["cuda", "cpu"], "tensorrt": ["tensorrt", "cuda", "cpu"]}
    return [ORT_NAMES[provider] for provider in order[name]]


def preload() -> None:
    """Bring the libraries that a GPU's sessions need into this process, from the wheels that hold them."""
    import onnxruntime as ort

    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()


def _missing(name: Literal["cuda", "tensorrt"], apart: bool = False) -> str:
    """Why the provider cannot be used, or "" when a probe session ran on it."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver (libcuda.so.1 cannot be loaded)"
    return _probe_apart(name) if apart else _probe(name)


def _probe_apart(name: str) -> str:
    """The probe in a process of its own, which costs its start but leaves nothing behind in this one."""
    command = [sys.executable, "-P", "-m", __name__, name]
    try:
        ended = subprocess.run(  # noqa: S603 - this interpreter and this module
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"a probe session took longer than {PROBE_SECONDS:g} s"
    return f"a probe session ended with code {ended.returncode}" if ended.returncode else ended.stdout.decode()


def _probe(name: str) -> str:
    import onnxruntime as ort

    try:
        preload()
        session = ort.InferenceSession(_PROBE, providers=session_providers(name), enable_fallback=0)
        if session.get_providers()[0] != ORT_NAMES[name]:
            return "onnxruntime could not create it (its libraries are missing or no device answers)"
        session.run(None, {"x": np.ones(1, np.float32)})
    except Exception as error:  # onnxruntime's errors share no base class but Exception
        return f"a probe session failed ({type(error).__name__})"
    return ""


def _installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _main(name: str) -> None:
    answer = os.dup(1)
    os.dup2(2, 1)  # onnxruntime prints on it
    os.write(answer, _probe(name).encode())


if __name__ == "__main__":
    _main(sys.argv[1])
