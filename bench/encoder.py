"""`make bench-encoder`: semantic.encoder with 16 callers beside in-process onnxruntime at its best batch size."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import uvloop
from bench import frame, report, servers
from bench.load import PREDICT, Call, Load, connection, drive
from bench.report import Spread
from bench.texts import shop_texts
from rich.table import Table
from tokenizers import Tokenizer

from mercato.v1 import prediction_pb2, tensor_pb2
from mercato_server import config
from mercato_server.contract.artifact import Artifact
from mercato_server.runtime.providers import choose
from mercato_server.runtime.session import Session, open_session
from mercato_server.runtime.threads import cpu_limit
from mercato_server.store import Store

MODEL = "semantic.encoder"
CALLERS = 16
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
TOLERANCE = 1e-4
"""Largest difference of one component of two unit vectors, computed in batches of different padding."""

Embeddings = npt.NDArray[np.float32]
Ids = list[list[int]]


class InProcess:
    """The server's own artifact and session options, without the server: one caller, one batch at a time."""

    def __init__(self, artifact: Artifact, texts: Sequence[str]) -> None:
        provider = choose(config.load().provider).name
        self._session: Session = open_session(artifact.graph("model"), provider=provider, threads=cpu_limit())
        self._tokenizer = Tokenizer.from_file(str(artifact.files / "tokenizer.json"))
        self._texts = list(texts)
        self._ids = self._tokenize(self._texts)

    @property
    def tokens(self) -> int:
        """Tokens of all texts."""
        return sum(map(len, self._ids))

    def with_tokenising(self, size: int) -> Embeddings:
        """All embeddings, in batches of `size` texts in the order given."""
        starts = range(0, len(self._texts), size)
        return np.concatenate([self._run(self._tokenize(self._texts[s : s + size])) for s in starts])

    def graph_only(self, size: int) -> Embeddings:
        """The same from token ids made beforehand."""
        return np.concatenate([self._run(self._ids[s : s + size]) for s in range(0, len(self._ids), size)])

    def graph_only_by_length(self, size: int) -> Embeddings:
        """The same with all texts known and sorted beforehand, so that nearly nothing is padded."""
        ordered = sorted(self._ids, key=len)
        return np.concatenate([self._run(ordered[s : s + size]) for s in range(0, len(ordered), size)])

    def _tokenize(self, texts: list[str]) -> Ids:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]

    def _run(self, rows: Ids) -> Embeddings:
        lengths = np.array([len(row) for row in rows], np.int64)
        ids = np.zeros((len(rows), lengths.max()), np.int64)
        for row, values in enumerate(rows):
            ids[row, : len(values)] = values
        return self._session.run({"input_ids": ids, "lengths": lengths})["embedding"]


@dataclass(frozen=True)
class Figures:
    """Texts per second. `ratio` and `graph_ratio` compare within each round, at the best batch size of all rounds.

    `ratio` has tokenising on both sides; `graph_ratio` leaves it out in process, where the server still
    does it. `client_us` is CPU time of the callers per text, spent on the same cores.
    """

    texts: int
    tokens: int
    threads: int
    served: Spread
    client_us: Spread
    in_process: dict[int, Spread]
    graph_only: dict[int, Spread]
    by_length: dict[int, Spread]
    best: int
    ratio: Spread
    graph_ratio: Spread
    by_length_ratio: Spread


@dataclass(frozen=True)
class Round:
    """Texts per second of one round: the server's, and those in process by batch size."""

    served: float
    client_us: float
    in_process: dict[int, float]
    graph_only: dict[int, float]
    by_length: dict[int, float]


def main() -> None:
    """Measure and print."""
    asked = frame.arguments(__doc__, rounds=5, of="server and in-process runs")
    figures = uvloop.run(measure(asked.store, asked.rounds))
    report.show(_tables(figures), {"encoder": figures}, as_json=asked.json)


async def measure(store: Path | None, rounds: int) -> Figures:
    """The same texts through the server and in process, in turn; one idles while the other works."""
    texts = shop_texts()
    payloads = [request(text).SerializeToString() for text in texts]
    with servers.mercato(store) as server:
        server.event("ready")
        async with connection(server.address, PREDICT) as call:
            local = InProcess(await artifact(call, store), texts)
            verify((await drive(call, payloads, calls=len(texts), in_flight=CALLERS)).answers, local.graph_only(1))
            turns = frame.turns("rounds", rounds)
            return _figures([await _round(call, payloads, local) for _ in turns], local, len(texts))


async def artifact(call: Call, store: Path | None) -> Artifact:
    """The artifact that the server answers from."""
    answer = _response(await call(request("red running shoes").SerializeToString()))
    return Store(store or config.default_store()).open(answer.model.digest)


async def _round(call: Call, payloads: Sequence[bytes], local: InProcess) -> Round:
    load: Load = await drive(call, payloads, calls=len(payloads), in_flight=CALLERS)
    return Round(
        served=len(load.answers) / load.seconds,
        client_us=load.client_cpu / len(load.answers) * 1e6,
        in_process={size: _rate(local.with_tokenising, size) for size in BATCH_SIZES},
        graph_only={size: _rate(local.graph_only, size) for size in BATCH_SIZES},
        by_length={size: _rate(local.graph_only_by_length, size) for size in BATCH_SIZES},
    )


def _rate(compute: Callable[[int], Embeddings], size: int) -> float:
    start = time.perf_counter()
    computed = compute(size)
    return len(computed) / (time.perf_counter() - start)


def _figures(rounds: Sequence[Round], local: InProcess, texts: int) -> Figures:
    in_process, graph, sorted_graph = (
        {size: Spread.of([getattr(r, name)[size] for r in rounds]) for size in BATCH_SIZES}
        for name in ("in_process", "graph_only", "by_length")
    )
    best, best_graph, best_sorted = (max(t, key=lambda s: t[s].median) for t in (in_process, graph, sorted_graph))
    return Figures(
        texts=texts,
        tokens=local.tokens,
        threads=cpu_limit(),
        served=Spread.of([r.served for r in rounds]),
        client_us=Spread.of([r.client_us for r in rounds]),
        in_process=in_process,
        graph_only=graph,
        by_length=sorted_graph,
        best=best,
        ratio=Spread.of([r.served / r.in_process[best] for r in rounds]),
        graph_ratio=Spread.of([r.served / r.graph_only[best_graph] for r in rounds]),
        by_length_ratio=Spread.of([r.served / r.by_length[best_sorted] for r in rounds]),
    )


def verify(answers: Sequence[bytes], expected: Embeddings) -> None:
    """Raise RuntimeError unless the server's embeddings are those of the graph run one text at a time."""
    worst = float(np.abs(embeddings(answers) - expected).max(initial=0.0))
    if not worst <= TOLERANCE:
        raise RuntimeError(f"the server's embeddings differ by {worst:g} from those in process")


def embeddings(answers: Sequence[bytes]) -> Embeddings:
    """One row per answer."""
    return np.stack([np.frombuffer(_response(a).outputs[0].tensor.data, np.float32) for a in answers])


def request(*texts: str) -> prediction_pb2.PredictRequest:
    """One row for each text."""
    items = [text.encode() for text in texts]
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_STRING, shape=[len(items)], items=items)
    named = tensor_pb2.NamedTensor(name="text", tensor=tensor)
    return prediction_pb2.PredictRequest(model=prediction_pb2.ModelRef(name=MODEL), inputs=[named])


def _response(answer: bytes) -> prediction_pb2.PredictResponse:
    return prediction_pb2.PredictResponse.FromString(answer)


def _tables(figures: Figures) -> list[Table]:
    title = f"{figures.texts} texts, {figures.tokens} tokens, {figures.threads} threads: texts per second"
    sweep = Table(
        "in process, batch size", "with tokenising", "graph only", "graph only, sorted by length", title=title
    )
    for size in BATCH_SIZES:
        columns = (figures.in_process[size], figures.graph_only[size], figures.by_length[size])
        sweep.add_row(str(size), *(spread.show(0) for spread in columns))
    total: Any = Table("figure", "median (low to high)", title=__doc__)
    total.add_row(f"server, {CALLERS} callers of one text each, texts per second", figures.served.show(0))
    total.add_row("callers' CPU time on the same cores, µs per text", figures.client_us.show(0))
    total.add_row(f"ratio to in process with tokenising, batch size {figures.best}", figures.ratio.show(2))
    total.add_row("ratio to the graph alone at its best batch size", figures.graph_ratio.show(2))
    total.add_row("ratio to the graph alone, all texts sorted by length", figures.by_length_ratio.show(2))
    return [sweep, total]


if __name__ == "__main__":
    main()
