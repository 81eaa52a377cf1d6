"""One loaded onnxruntime session: the only place that creates them."""

from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from mercato_server.contract.batch import Array
from mercato_server.errors import LoadFailed, ProviderUnavailable
from mercato_server.runtime.memory import give_back
from mercato_server.runtime.providers import ORT_NAMES, preload, session_providers
from mercato_server.runtime.shrinkage import Shrinkage

# onnxruntime has one class for inputs that do not fit the graph and for values that a kernel refuses.
_KERNEL = "while running"

# They keep a scale or an epsilon in a float32 attribute, also where the graph computes in float64.
_INEXACT_OPTIMIZERS = ["MatMulScaleFusion", "LayerNormFusion", "LayerNormFusionL1", "SimplifiedLayerNormFusion"]

_is_shared = False

_SHORT_NAMES = {long: short for short, long in ORT_NAMES.items()}


class ValuesRefused(Exception):
    """A kernel refused what stands in its inputs, such as the index of a row that a table does not have."""


class Session:
    """A graph ready to run. Concurrent `run` calls are allowed on the CPU.

    `providers` are the short names of the execution providers that it has, the one in use first; those
    behind it take the nodes that the first has no kernel for.
    """

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self.providers: tuple[str, ...] = tuple(_SHORT_NAMES.get(name, name) for name in session.get_providers())
        self._outputs = [item.name for item in session.get_outputs()]
        self._shrinkage = Shrinkage()
        self._shrinking = _shrinking(self.providers)

    @property
    def provider(self) -> str:
        """The provider in use."""
        return self.providers[0]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name for inputs by name; arrays may be read-only. Raises ValuesRefused."""
        is_due = self._shrinkage.is_due(sum(array.nbytes for array in inputs.values()))
        try:
            found = self._session.run(self._outputs, inputs, self._shrinking if is_due else None)
        except InvalidArgument as error:
            if _KERNEL not in str(error):
                raise  # names, types or shapes
            raise ValuesRefused from error
        if is_due:
            give_back()
        return dict(zip(self._outputs, found, strict=True))


def share_threads(count: int) -> None:
    """Give all later sessions of this process one pool of `count` threads, their callers among them, for good.

    Calls after the first one change nothing. The pool's threads look for more work for some 40 ms after a run before
    they sleep, which onnxruntime does not let be changed from Python.
    """
    global _is_shared
    if not _is_shared:
        ort.set_global_thread_pool_sizes(count, 1)
        _is_shared = True


def open_session(path: Path, *, provider: str = "cpu", threads: int = 1) -> Session:
    """Load an ONNX file.

    `threads` is the number of cores one run may use on the CPU. Raises LoadFailed when the file is
    not a graph this runtime runs, ProviderUnavailable when the session came up on another provider.
    """
    try:
        if provider != "cpu":
            preload()
        options = _options(threads if provider == "cpu" else 1)
        session = _opened(path, options, provider)
        if any(item.type == "tensor(double)" for item in (*session.get_inputs(), *session.get_outputs())):
            session = _opened(path, options, provider, disabled_optimizers=_INEXACT_OPTIMIZERS)
    except Exception as error:  # onnxruntime's errors share no base class but Exception
        raise LoadFailed(f"graph {path.stem!r} cannot be loaded on {provider}: {type(error).__name__}") from error
    got = session.get_providers()[0]
    if got != ORT_NAMES[provider]:
        raise ProviderUnavailable(f"graph {path.stem!r} was to run on {provider} but came up on {got}")
    return Session(session)


def _opened(path: Path, options: ort.SessionOptions, provider: str, **more: list[str]) -> ort.InferenceSession:
    return ort.InferenceSession(path, options, providers=session_providers(provider), enable_fallback=0, **more)


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if _is_shared:
        options.use_per_session_threads = False
    else:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    # Memory patterns are cached per input shape, which free batch and length axes would fill without end.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _shrinking(providers: tuple[str, ...]) -> ort.RunOptions:
    """The options of a run that gives back what the arenas do not need any more."""
    arenas = ("cpu:0", "gpu:0") if "cuda" in providers else ("cpu:0",)
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", ";".join(arenas))
    return options
