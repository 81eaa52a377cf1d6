"""Names at a graph's door: inputs and outputs get the declared names, whatever the graph calls its inner values."""

from collections.abc import Iterator, Sequence

import onnx_ir as ir


def rename_ports(model: ir.Model, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Give inputs and outputs these names, in order; inner values that hold such a name get another one.

    ONNX has one namespace for inputs, outputs, weights and intermediate values: an output called
    `embedding` beside a weight `embedding` makes an invalid file.
    """
    graph = model.graph
    _separate_outputs(graph)
    ports = {*graph.inputs, *graph.outputs}
    values = list(dict.fromkeys(_values(model)))
    taken = {value.name for value in values} | {*inputs, *outputs}
    for value in values:
        # A port keeps its old name until the declared ones are free.
        if value in ports or value.name in {*inputs, *outputs}:
            value.name = _free_name(value.name or "value", taken)
    for value, name in zip([*graph.inputs, *graph.outputs], [*inputs, *outputs], strict=True):
        value.name = name


def _separate_outputs(graph: ir.Graph) -> None:
    """Put an Identity before an output that is also an input, a weight, or another output."""
    seen: set[ir.Value] = set()
    for place, value in enumerate(graph.outputs):
        if value in seen or value.producer() is None:
            node = ir.node("Identity", [value])
            copy = node.outputs[0]
            copy.name, copy.type, copy.shape = f"{value.name}_{place}", value.type, value.shape
            graph.append(node)
            graph.outputs[place] = copy
        seen.add(value)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    yield from model.graph.inputs
    for graph in model.graphs():
        yield from graph.initializers.values()
        yield from graph.inputs
        for node in graph:
            yield from node.outputs


def _free_name(name: str, taken: set[str | None]) -> str:
    number = 1
    while f"{name}_inner{number}" in taken:
        number += 1
    taken.add(f"{name}_inner{number}")
    return f"{name}_inner{number}"
