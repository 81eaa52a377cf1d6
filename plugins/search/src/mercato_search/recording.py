"""Queries with the answers of an exact computation, for the certificate to hold the served model against."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mercato_plugin import Batch
from mercato_search.catalogue import Queries
from mercato_search.products import IMAGE, TEXT, ProductsModel
from mercato_search.towers import Networks
from mercato_training import TrainContext
from mercato_vision.pictures import BadPicture, Decoder

Array = npt.NDArray[Any]

ROWS = 24
"""Queries of each kind that are kept."""

STRANGE = ("", " ", "!?", "👟", "a 好")
"""Texts that are asked beside a picture."""

MAX_BYTES = 64 << 10
"""A larger picture is kept as the pixels that the network saw."""

CLEAR = 1e-5
"""Scores that differ by less may change places in float32."""

K = 5


def record(
    model: ProductsModel, networks: Networks, decoder: Decoder | None, queries: Queries, ctx: TrainContext
) -> None:
    """Requests of texts, of pictures and of both, answered by the index for vectors that were computed in float64."""
    exact = networks.exact()
    texts = [text for text in dict.fromkeys(queries.texts) if text][:ROWS]
    files = _readable([file for file in dict.fromkeys(queries.pictures) if file], decoder) if decoder else []
    words = [text for text, _ in zip([*STRANGE, *texts], files, strict=False)]
    requests: tuple[dict[str, Sequence[Any]], ...] = (
        {TEXT: texts},
        {IMAGE: files},
        {TEXT: words, IMAGE: files[: len(words)]},
    )
    for asked in requests:
        if all(asked.values()):
            _keep(asked, ask(model, exact, asked, K + 1), ctx)


def ask(model: ProductsModel, graphs: Networks, inputs: Mapping[str, Sequence[Any]], k: int) -> Mapping[str, Array]:
    """What the model answers to rows of inputs, its graphs being these networks."""
    rows = len(next(iter(inputs.values())))
    absent = {TEXT: "", IMAGE: b""}
    given = {name: np.array(inputs.get(name, [absent[name]] * rows), object) for name in absent}
    present = {name: np.full(rows, name in inputs) for name in absent}
    return model.predict(Batch(given, rows, {"k": k, "image_weight": np.full(rows, 0.5)}, present=present), graphs)


def _keep(inputs: Mapping[str, Sequence[Any]], answer: Mapping[str, Array], ctx: TrainContext) -> None:
    """The answer without its last product; where the order hangs on rounding, the scores alone."""
    scores = answer["score"]
    is_clear = ((scores[:, :-1] - scores[:, 1:] > CLEAR) | (answer["product_id"][:, 1:] == "")).all(axis=1)
    for chosen, names in ((is_clear, ("product_id", "score")), (~is_clear, ("score",))):
        if chosen.any():
            rows = np.flatnonzero(chosen)
            kept = {name: [values[row] for row in rows.tolist()] for name, values in inputs.items()}
            ctx.record(kept, {name: answer[name][rows, :K] for name in names}, {"k": K})


def _readable(files: Sequence[bytes], decoder: Decoder) -> list[bytes]:
    """The first that can be decoded, each of at most `MAX_BYTES`."""
    found = list(files[:ROWS])
    pairs = zip(found, decoder.decode(found), strict=True)
    return [_small(file, picture) for file, picture in pairs if not isinstance(picture, BadPicture)]


def _small(file: bytes, picture: Array) -> bytes:
    if len(file) <= MAX_BYTES:
        return file
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
