"""Values that a graph does not take: found before the run where bounds are declared, told by the graph where not."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mercato_plugin import Batch, InvalidInput, ModelSpec, Ragged, Tensor
from mercato_server.contract.batch import Array

Rows = npt.NDArray[np.intp]
Inputs = Mapping[str, Array | Ragged]


class Bounds:
    """What the graphs of one model take.

    The codec has checked the caller's own arrays against the signature, so these are looked at again only where
    a graph declares other bounds.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._callers = spec.inputs
        self._bounded = {
            graph: {n: t for n, t in given.inputs.items() if t.low is not None or t.high is not None}
            for graph, given in spec.graphs.items()
        }

    def check(self, graph: str, inputs: Inputs, batch: Batch) -> None:
        """Raises InvalidInput with the rows whose values lie outside the bounds of a graph's input."""
        for name, tensor in self._bounded.get(graph, {}).items():
            value = inputs.get(name)
            if value is None or (value is batch.inputs.get(name) and self._has_bounds_of(tensor, name)):
                continue
            if len(rows := _rows_outside(tensor, value, batch.present.get(name))):
                whole = (len(value.lengths) if isinstance(value, Ragged) else len(value)) == batch.rows
                raise InvalidInput(name, self._told(tensor, name), rows=rows.tolist() if whole else None)

    def refused(self, graph: str, inputs: Inputs, batch: Batch) -> InvalidInput | None:
        """What to tell the caller when a kernel refused the values; None when the plugin made them."""
        known = {n for n, t in self._bounded.get(graph, {}).items() if t.low is not None and t.high is not None}
        suspects = {name: value for name, value in inputs.items() if name not in known}
        if not suspects or any(value is not batch.inputs.get(name) for name, value in suspects.items()):
            return None
        whole = [name for name, value in suspects.items() if not isinstance(value, Ragged) and value.dtype.kind in "iu"]
        names = whole or list(suspects)
        also = f" (or those of {', '.join(names[1:])})" if len(names) > 1 else ""
        return InvalidInput(names[0], f"the values{also} lie outside what the model's graph takes")

    def _has_bounds_of(self, tensor: Tensor, name: str) -> bool:
        item = self._callers[name]
        return (item.low, item.high) == (tensor.low, tensor.high)

    def _told(self, tensor: Tensor, name: str) -> str:
        low, high = ("-inf" if tensor.low is None else tensor.low), ("inf" if tensor.high is None else tensor.high)
        whose = "" if name in self._callers else f" for the graph's input {name!r}"
        return f"got values outside {low} to {high}{whose}"


def _rows_outside(tensor: Tensor, value: Array | Ragged, present: Array | None) -> Rows:
    """Rows with such values; padding and what stands in absent rows are the author's own."""
    values = value.values if isinstance(value, Ragged) else np.asarray(value)
    low, high = (-np.inf if tensor.low is None else tensor.low), (np.inf if tensor.high is None else tensor.high)
    if values.size == 0 or (values.min() >= low and values.max() <= high):
        return np.zeros(0, np.intp)
    outside = np.asarray(~((values >= low) & (values <= high)))  # so that NaN is outside
    if isinstance(value, Ragged):
        owners = np.repeat(np.arange(len(value.lengths)), value.lengths)
        return np.unique(owners[_per_row(outside)])
    rows = _per_row(outside & (values != tensor.pad) if tensor.ragged else outside)
    return np.flatnonzero(rows if present is None or len(present) != len(rows) else rows & present)


def _per_row(outside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.logical_or.reduce(outside.reshape(len(outside), -1), axis=1)
    return found
