"""The nearest vectors by faiss; what it reads is held against the facts before it is used."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from mercato_reviews.reading import damaged
from mercato_search.facts import FLAT, MODEL, IndexFacts

Scores = npt.NDArray[np.float32]


class Index:
    """Vectors by their dot product with a query."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def nearest(self, queries: Scores, count: int) -> npt.NDArray[np.int64]:
        """Rows of the `count` vectors found nearest, (queries, count); -1 where fewer were found."""
        # The number of threads belongs to the calling thread. One is enough beside the sessions' own.
        faiss.omp_set_num_threads(1)
        _, found = self.inner.search(np.ascontiguousarray(queries), count)
        rows: npt.NDArray[np.int64] = found
        return rows

    def look_at(self, probes: int) -> None:
        """Search so many lists."""
        self.inner.nprobe = probes


def read_index(path: Path, facts: IndexFacts, rows: int, width: int) -> Index:
    """The index in a file. Raises FolderError for one that is not as the facts say."""
    try:
        inner = faiss.deserialize_index(np.fromfile(path, np.uint8))
    except (OSError, RuntimeError):
        raise damaged(MODEL, path.name, "is missing or no index") from None
    kind = faiss.IndexFlatIP if facts.kind == FLAT else faiss.IndexIVF
    lists = getattr(inner, "nlist", 0)
    is_right = isinstance(inner, kind) and inner.metric_type == faiss.METRIC_INNER_PRODUCT and lists == facts.lists
    if not is_right or (inner.ntotal, inner.d) != (rows, width):
        got = f"{inner.ntotal} vectors of {inner.d} in {lists} lists"
        raise damaged(MODEL, path.name, f"holds {got}, expected {rows} of {width} in {facts.lists}")
    index = Index(inner)
    if facts.kind != FLAT:
        index.look_at(facts.probes)
    return index


def read_vectors(path: Path, rows: int, width: int) -> Scores:
    """Vectors of shape (rows, width), left on disk until they are looked at. Raises FolderError."""
    try:
        vectors: Scores = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        raise damaged(MODEL, path.name, "is missing or holds no array") from None
    if vectors.dtype != np.float32 or vectors.shape != (rows, width):
        got = f"{vectors.dtype} of shape {vectors.shape}"
        raise damaged(MODEL, path.name, f"holds {got}, expected float32 of shape {(rows, width)}")
    return vectors


def to_bytes(index: Index) -> bytes:
    """The index for a file."""
    content: bytes = faiss.serialize_index(index.inner).tobytes()
    return content
