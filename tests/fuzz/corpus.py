"""The seeds: every request of the table of bad input, and good ones."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tests.fuzz.decode import CODECS
from tests.server.bad.messages import GOOD, kinds
from tests.server.bad.messages_page import ROWS
from tests.server.bad.messages_plugin import KINDS
from tests.server.bad.messages_tensors import ids, seq
from tests.server.calls import texts

from mercato.v1 import tensor_pb2
from mercato_server.contract.fields import default_row

# Longer seeds slow every execution down, and what makes them long is repetition.
LONGEST = 4096


def requests() -> Iterator[bytes]:
    """Every row's bytes, whatever its length, and good requests of every kind."""
    for row in ROWS:
        yield row.data
    good = (kinds(seq([1, 2], [2], 2)), ids(0, 1), texts(b"red shoes", b"kettle"), *map(kinds, absent()))
    yield from (GOOD, *(message.SerializeToString() for message in good))


def absent() -> Iterator[tensor_pb2.NamedTensor]:
    """Every optional input of the odd plugin, holding what stands there when it is left out."""
    for name, codec in CODECS[KINDS].inputs.items():
        if codec.item.optional:
            row = default_row(codec.item)
            yield tensor_pb2.NamedTensor(name=name, tensor=codec.encode(row if codec.item.shared else row[np.newaxis]))


def write(folder: Path) -> int:
    """Write the seeds that fuzzing starts from, each once; gives their number."""
    seeds = sorted({data for data in requests() if len(data) <= LONGEST})
    for number, data in enumerate(seeds):
        (folder / f"{number:04}").write_bytes(data)
    return len(seeds)
