"""One loaded onnxruntime session: the only place that creates them."""

from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from mercato_server.contract.batch import Array
from mercato_server.errors import LoadFailed, ProviderUnavailable
from mercato_server.runtime.providers import ORT_NAMES, session_providers

# onnxruntime has one class for inputs that do not fit the graph and for values that a kernel refuses.
_KERNEL = "while running"

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

    @property
    def provider(self) -> str:
        """The provider in use."""
        return self.providers[0]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name for inputs by name; arrays may be read-only. Raises ValuesRefused."""
        try:
            return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))
        except InvalidArgument as error:
            if _KERNEL not in str(error):
                raise  # names, types or shapes
            raise ValuesRefused from error


def open_session(path: Path, *, provider: str = "cpu", threads: int = 1) -> Session:
    """Load an ONNX file.

    `threads` is the number of cores one run may use on the CPU. Raises LoadFailed when the file is
    not a graph this runtime runs, ProviderUnavailable when the session came up on another provider.
    """
    try:
        options = _options(threads if provider == "cpu" else 1)
        session = ort.InferenceSession(path, options, providers=session_providers(provider), enable_fallback=0)
    except Exception as error:  # onnxruntime's errors share no base class but Exception
        raise LoadFailed(f"graph {path.stem!r} cannot be loaded on {provider}: {type(error).__name__}") from error
    got = session.get_providers()[0]
    if got != ORT_NAMES[provider]:
        raise ProviderUnavailable(f"graph {path.stem!r} was to run on {provider} but came up on {got}")
    return Session(session)


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Memory patterns are cached per input shape, which free batch and length axes would fill without end.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
