"""The model search.products: signature, settings, and the search of one batch; imports no build tool."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mercato_plugin import (
    Axis,
    Batch,
    BatchPolicy,
    BuildContext,
    Example,
    Float,
    Graphs,
    GraphSpec,
    Image,
    Int,
    LoadContext,
    Model,
    ModelSpec,
    SpecContext,
    Tensor,
    Text,
    setting,
)
from mercato_plugin.examples import read_examples
from mercato_search.facts import (
    ENCODER,
    FILE,
    MODEL,
    PRODUCTS,
    Facts,
    ImageFacts,
    TextFacts,
    read_products,
    read_search,
)
from mercato_search.ranking import Query, Side, ranked
from mercato_search.texts import Reader, read_reader, text_graph
from mercato_vision.category import MAX_BYTES
from mercato_vision.pictures import MAX_PIXELS, BadPicture, Decoder

TEXT, IMAGE = "text", "image"
MOST = 100
"""Products of one answer."""

NO_PICTURES = (
    "this version's index has no pictures; train it with --set vision=FOLDER, a model folder of vision.category"
)
NOTHING = "neither text nor image is given; expected one of them, or both"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class SearchSettings:
    """What an operator may set for search.products; training and serving must agree on it."""

    encoder: Path | None = setting(
        None, doc="folder of a BERT-family sentence encoder to read texts with in place of the English MiniLM-L6"
    )
    language: str = setting("", doc="BCP 47 tag of that encoder's language, such as zh; mul for several")


class ProductsModel(Model):
    """The products nearest to a text, a picture or both."""

    name = MODEL
    settings = SearchSettings
    build: Any = "mercato_search.building:build"
    train: Any = "mercato_search.training:train"
    evaluate: Any = "mercato_search.training:evaluate"
    _sides: Mapping[str, Side]
    _ids: Array
    _reader: Reader
    _decoder: Decoder | None

    def spec(self, ctx: SpecContext) -> ModelSpec:
        """The specification, with the towers of the model folder. Raises FolderError."""
        assert ctx.files is not None
        facts = read_search(ctx.files / FILE)
        return ModelSpec(
            name=MODEL,
            inputs={
                TEXT: Text(optional=True, doc="what is looked for, in words; personal data in it is masked"),
                IMAGE: Image(
                    optional=True, max_pixels=MAX_PIXELS, max_bytes=MAX_BYTES, doc="a picture of what is looked for"
                ),
            },
            outputs={
                "product_id": Text(axes=("batch", Axis("k", max=MOST)), doc="best first; empty behind the last"),
                "score": Tensor(
                    "float32", ("batch", Axis("k", max=MOST)), doc="cosine similarity, of both parts their weighted sum"
                ),
            },
            parameters={
                "k": Int(default=10, low=1, high=MOST, doc="how many products are answered"),
                "image_weight": Float(
                    default=0.5, low=0.0, high=1.0, per_row=True, doc="of the picture, where there is a text too"
                ),
            },
            graph=_graphs(facts),
            opset=24 if facts.text.tower == ENCODER else 20,
            # A request is one batch: a text's byte and a picture's pixel weigh the same and take most different times, so
            # what a batch before it will take is badly foreseen.
            batch=BatchPolicy(max_rows=64, request_rows=64, run_rows=16, max_padding=0.1, max_cost=2 * MAX_PIXELS),
            doc="Products that a text, a picture or both ask for.",
            languages=facts.languages,
        )

    def examples(self, ctx: BuildContext) -> Iterable[Example]:
        """What training recorded."""
        assert ctx.files is not None
        return read_examples(ctx.files / "examples.json")

    def load(self, ctx: LoadContext) -> None:
        """Read the index that build saved, and hold it against the facts. Raises FolderError."""
        facts = read_search(ctx.files / FILE)
        ids = read_products(ctx.files / PRODUCTS, facts.products)
        decoder = Decoder(facts.image.size) if facts.image else None
        self.use(read_sides(ctx.files, facts), ids, read_reader(ctx.files, facts.text), decoder)

    def use(self, sides: Mapping[str, Side], ids: Iterable[str], reader: Reader, decoder: Decoder | None) -> None:
        """Search these vectors of the products `ids`."""
        self._sides = sides
        self._ids = np.array([*ids, ""], object)
        self._reader = reader
        self._decoder = decoder

    def predict(self, batch: Batch, graphs: Graphs) -> Mapping[str, Any]:
        """The best products of every row; a row with neither a text nor a picture is refused."""
        texts, images = self._asked(batch)
        queries = {TEXT: self._texts(batch, texts, graphs), IMAGE: self._pictures(batch, images, graphs)}
        weights = _weights(queries, np.asarray(batch.parameters["image_weight"], np.float32))
        best = ranked(self._sides, queries, weights, batch.parameters["k"])
        # Product -1, of which there is none, is the last name, which is empty.
        return {"product_id": self._ids[best.products], "score": best.scores}

    def _asked(self, batch: Batch) -> tuple[Array, Array]:
        """Which rows have a text, and which a picture that can be looked for."""
        texts = np.array([bool(text.strip()) for text in batch.inputs[TEXT].tolist()]) & batch.present[TEXT]
        images = batch.present[IMAGE]
        for row in np.flatnonzero(~texts & ~images).tolist():
            batch.reject(row, TEXT, NOTHING)
        if self._decoder is None:
            for row in np.flatnonzero(images).tolist():
                batch.reject(row, IMAGE, NO_PICTURES)
            return texts, np.zeros_like(images)
        return texts, images

    def _texts(self, batch: Batch, asked: Array, graphs: Graphs) -> Query:
        rows = np.flatnonzero(asked)
        if not len(rows):
            return self._run({}, rows, TEXT, graphs)
        read = self._reader.read(batch.inputs[TEXT][rows].tolist())
        for row in read.cut:
            batch.truncate(int(rows[row]), TEXT)
        return self._run(read.inputs, rows[read.rows], TEXT, graphs)

    def _pictures(self, batch: Batch, asked: Array, graphs: Graphs) -> Query:
        pixels, rows = [], []
        for row, picture in self._decoded(batch, np.flatnonzero(asked)):
            if isinstance(picture, BadPicture):
                batch.reject(row, IMAGE, str(picture))
            else:
                pixels.append(picture)
                rows.append(row)
        return self._run({"pixels": np.stack(pixels)} if pixels else {}, np.array(rows, np.int64), IMAGE, graphs)

    def _decoded(self, batch: Batch, rows: Array) -> Iterable[tuple[int, Any]]:
        if self._decoder is None or not len(rows):
            return ()
        return zip(rows.tolist(), self._decoder.decode(batch.inputs[IMAGE][rows].tolist()), strict=True)

    def _run(self, inputs: Mapping[str, Any], rows: Array, graph: str, graphs: Graphs) -> Query:
        """A graph over the rows that have its inputs; none are run for none."""
        if not len(rows):
            return Query(np.zeros((0, 0), np.float32), rows)
        return Query(graphs.run(inputs, graph)["vector"], rows)


def _weights(queries: Mapping[str, Query], image_weight: Array) -> dict[str, Array]:
    """Of each kind, by row: a text or a picture alone weighs 1, and so does a picture beside an unknown text."""
    has_text, has_image = np.zeros((2, len(image_weight)), bool)
    has_text[queries[TEXT].rows] = has_image[queries[IMAGE].rows] = True
    weight = np.where(has_text, np.where(has_image, image_weight, 0), 1).astype(np.float32)
    return {TEXT: 1 - weight, IMAGE: weight}


def read_sides(files: Path, facts: Facts) -> dict[str, Side]:
    """The vectors and indexes of each kind. Raises FolderError."""
    from mercato_search.index import read_index, read_vectors  # faiss is wanted in workers alone

    towers: dict[str, TextFacts | ImageFacts] = {TEXT: facts.text}
    if facts.image is not None:
        towers[IMAGE] = facts.image
    return {
        kind: Side(
            read_vectors(files / f"{kind}.npy", facts.products, tower.width),
            read_index(files / f"{kind}.index", tower.index, facts.products, tower.width),
        )
        for kind, tower in towers.items()
    }


def _graphs(facts: Facts) -> dict[str, GraphSpec]:
    graphs = {TEXT: text_graph(facts.text)}
    if facts.image is not None:
        size, width = facts.image.size, facts.image.width
        graphs[IMAGE] = GraphSpec(
            inputs={"pixels": Tensor("uint8", ("batch", size, size, 3), low=0, high=255)},
            outputs={"vector": Tensor("float32", ("batch", width))},
        )
    return graphs
