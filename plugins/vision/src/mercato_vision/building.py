"""Build time: the network with the weights that training wrote."""

import json
from pathlib import Path

from mercato_plugin import BuildContext
from mercato_vision.facts import FILE, WEIGHTS, damaged, read_facts
from mercato_vision.network import CategoryNetwork, ResNet18
from mercato_vision.weights import BadWeights, load_whole


def build(ctx: BuildContext) -> CategoryNetwork:
    """The network of the model folder; its facts go to the worker. Raises FolderError."""
    assert ctx.files is not None
    ctx.save(FILE, json.dumps(read_facts(ctx.files / FILE).plain(), ensure_ascii=False).encode())
    return CategoryNetwork(load_network(ctx.files))


def load_network(files: Path) -> ResNet18:
    """The network of a model folder's files, ready to infer. Raises FolderError."""
    facts = read_facts(files / FILE)
    network = ResNet18(len(facts.labels), facts.inner)
    try:
        load_whole(network, files / WEIGHTS)
    except BadWeights as error:
        raise damaged(WEIGHTS, str(error)) from None
    return network.eval()
