"""Generated graph inputs: which shapes a certificate tries, and seeded values inside the declared bounds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from mercato_plugin import BATCH, GraphSpec, Tensor
from mercato_server.contract.batch import Array
from mercato_server.contract.fields import numpy_dtype
from mercato_server.export.graphs import axis_name, named_axes

MAX_CELLS = 16_384
"""Largest product of the varying axes in one case: rows times padded length, for instance."""

_ROWS = (1, 2, 3, 7)
_USUAL_ROWS = 3
_USUAL_SIZE = 5

Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Inputs:
    """One case. `lengths` are the rows' true lengths along the ragged axis, None for a graph without one."""

    arrays: dict[str, Array]
    lengths: Array | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the graph inputs."""
        return {name: array.shape for name, array in self.arrays.items()}


def example(graph: GraphSpec) -> Inputs:
    """Inputs to trace a graph with: three rows, and another size for every axis."""
    axes = [name for name in named_axes(graph) if name != BATCH]
    sizes = {name: min(named_axes(graph)[name] or 1, _USUAL_SIZE + 2 * place) for place, name in enumerate(axes)}
    return make(graph, {BATCH: _USUAL_ROWS, **sizes}, seed=0)


def generated(graph: GraphSpec, max_rows: int) -> Iterator[Inputs]:
    """The cases of a certificate: rows 1, 2, 3, 7 and maximum, then each axis at 1, 2, odd and maximum.

    Rows and every axis are tried at one seeded size between these as well.
    """
    for seed, sizes in enumerate(sizes_to_try(graph, max_rows), start=1):
        yield make(graph, sizes, seed)


def sizes_to_try(graph: GraphSpec, max_rows: int) -> list[dict[str, int]]:
    """Sizes of the named axes, one axis at its maximum at a time, every case within `MAX_CELLS`."""
    maxima = named_axes(graph)
    usual = {name: _USUAL_SIZE if top is None else min(_USUAL_SIZE, top) for name, top in maxima.items()}
    usual[BATCH] = min(_USUAL_ROWS, max_rows)
    tried = [
        {**usual, BATCH: rows} for rows in (*_ROWS, *_between(_ROWS[-1], (), max_rows), max_rows) if rows <= max_rows
    ]
    for name, top in maxima.items():
        if top is not None:
            known = (1, 2, _odd(top), top)
            between = _between(2, (*known, usual[name]), top)
            tried += [{**usual, name: size} for size in (*known, *between) if size <= top]
    bounded = [_bounded(sizes) for sizes in tried]
    return [sizes for place, sizes in enumerate(bounded) if sizes not in bounded[:place]]


def make(graph: GraphSpec, sizes: Sizes, seed: int) -> Inputs:
    """Values for the given sizes; the same seed gives the same values.

    Behind a row's true length, ragged inputs hold their `pad`. One row at least has the full length.
    """
    random = np.random.default_rng(seed)
    ragged = ragged_axis(graph)
    lengths = None if ragged is None else _lengths(sizes, ragged, random)
    arrays = {}
    for name, tensor in graph.inputs.items():
        shape = tuple(axis if isinstance(axis, int) else sizes[axis_name(axis) or ""] for axis in tensor.axes)
        arrays[name] = _values(tensor, shape, random)
        if lengths is not None and name in padded_inputs(graph):
            arrays[name][np.arange(shape[1]) >= lengths[:, None]] = tensor.pad
    return with_lengths(graph, Inputs(arrays, lengths))


def with_lengths(graph: GraphSpec, inputs: Inputs) -> Inputs:
    """The same inputs, the graph's own input of true lengths filled in."""
    if graph.lengths is None or inputs.lengths is None:
        return inputs
    filled = inputs.lengths.astype(graph.inputs[graph.lengths].dtype)
    return replace(inputs, arrays={**inputs.arrays, graph.lengths: filled})


def sizes_of(graph: GraphSpec, arrays: Mapping[str, Array]) -> dict[str, int]:
    """The sizes of the named axes in given inputs."""
    sizes: dict[str, int] = {}
    for name, tensor in graph.inputs.items():
        pairs = zip(map(axis_name, tensor.axes), arrays[name].shape, strict=True)
        sizes |= {axis: size for axis, size in pairs if axis is not None}
    return sizes


def ragged_axis(graph: GraphSpec) -> str | None:
    """The axis along which rows have lengths of their own, if any."""
    first = next(iter(padded_inputs(graph)), None)
    return None if first is None else axis_name(graph.inputs[first].axes[1])


def padded_inputs(graph: GraphSpec) -> tuple[str, ...]:
    """Inputs that are padded behind each row's true length; all of them along the same axis."""
    return tuple(name for name, tensor in graph.inputs.items() if tensor.ragged)


def row(graph: GraphSpec, inputs: Inputs, index: int) -> Inputs:
    """One row of a case, as wide as it was in the batch."""
    arrays = {
        name: array[index : index + 1] if graph.inputs[name].axes[:1] == (BATCH,) else array
        for name, array in inputs.arrays.items()
    }
    return Inputs(arrays, None if inputs.lengths is None else inputs.lengths[index : index + 1])


def resized(graph: GraphSpec, inputs: Inputs, width: int) -> Inputs:
    """The case with its ragged axis cut or padded to `width`, which must hold every row's true length."""
    ragged = ragged_axis(graph)
    arrays = dict(inputs.arrays)
    for name, tensor in graph.inputs.items():
        for place, axis in enumerate(tensor.axes):
            if axis_name(axis) == ragged:
                arrays[name] = _resize(arrays[name], place, width, tensor.pad)
    return replace(inputs, arrays=arrays)


def _bounded(sizes: dict[str, int]) -> dict[str, int]:
    """Fewer rows, and then a shorter longest axis, until the case fits."""
    others = prod(size for name, size in sizes.items() if name != BATCH)
    bounded = {**sizes, BATCH: max(1, min(sizes[BATCH], MAX_CELLS // others))}
    if prod(bounded.values()) <= MAX_CELLS:
        return bounded
    longest = max(bounded, key=lambda name: bounded[name])
    return {**bounded, longest: max(1, MAX_CELLS * bounded[longest] // prod(bounded.values()))}


def _odd(top: int) -> int:
    """An odd size between the usual one and the maximum."""
    return min(top, (top // 3) | 1)


def _between(low: int, tried: Sequence[int], top: int) -> list[int]:
    """One size above `low` and below `top` that is not tried yet, always the same; none where there is none."""
    sizes = [size for size in range(low + 1, min(top, MAX_CELLS)) if size not in tried]
    return [int(np.random.default_rng(top).choice(sizes))] if sizes else []


def _lengths(sizes: Sizes, ragged: str, random: np.random.Generator) -> Array:
    lengths = random.integers(1, sizes[ragged], sizes[BATCH], endpoint=True)
    lengths[random.integers(len(lengths))] = sizes[ragged]
    return lengths


def _values(tensor: Tensor, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    dtype = numpy_dtype(tensor.dtype)
    if tensor.dtype == "bool":
        return random.integers(0, 1, shape, endpoint=True).astype(dtype)
    if dtype.kind in "iu":
        low, high = _integer_bounds(tensor)
        return random.integers(low, high, shape, endpoint=True, dtype=dtype)
    return _floats(tensor, shape, random).astype(dtype)


def _integer_bounds(tensor: Tensor) -> tuple[int, int]:
    """Without bounds: 8 bits over their whole range, as pixels have it; wider integers from 0."""
    whole = np.iinfo(tensor.dtype)
    low = (whole.min if whole.bits == 8 else 0) if tensor.low is None else int(np.ceil(tensor.low))
    if tensor.high is not None:
        return min(low, int(np.floor(tensor.high))), int(np.floor(tensor.high))
    # Of wider integers only the true lengths come without a maximum, and those are filled in afterwards.
    return low, whole.max if whole.bits == 8 else low + 1


def _floats(tensor: Tensor, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    if tensor.low is not None and tensor.high is not None:
        return random.uniform(tensor.low, tensor.high, shape)
    normal = random.standard_normal(shape)
    if tensor.low is not None:
        return tensor.low + np.abs(normal)
    return normal if tensor.high is None else tensor.high - np.abs(normal)


def _resize(array: Array, place: int, width: int, pad: float) -> Array:
    missing = width - array.shape[place]
    if missing <= 0:
        return np.take(array, np.arange(width), axis=place)
    return np.pad(array, [(0, missing if axis == place else 0) for axis in range(array.ndim)], constant_values=pad)
