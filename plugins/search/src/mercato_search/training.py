"""`mercato train` and `mercato evaluate` for search.products."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from mercato_search import catalogue
from mercato_search.building import CENTRE, TABLE
from mercato_search.catalogue import ID, SCHEMA
from mercato_search.facts import ENCODER, FILE, PRODUCTS, TERMS, Facts, ImageFacts, read_search
from mercato_search.index import to_bytes
from mercato_search.indexing import Fitted, fitted_index
from mercato_search.networks import ImageTower
from mercato_search.products import IMAGE, TEXT, ProductsModel
from mercato_search.recording import ask, record
from mercato_search.relevance import FIRST, judged
from mercato_search.texts import VOCABULARY
from mercato_search.towers import Networks, TextTower, Vision, image_tower, text_tower, vision_of
from mercato_training import Data, EvaluateContext, Evaluation, Table, TrainContext, option
from mercato_vision.facts import FILE as VISION_FILE
from mercato_vision.facts import WEIGHTS as VISION_WEIGHTS
from mercato_vision.pictures import Decoder

Array = npt.NDArray[Any]
Predict = Callable[[Mapping[str, Any]], Mapping[str, Any]]

TUNING = 1000
"""Names, and pictures, by which an index is held against comparing all vectors."""

AT_ONCE = 64
"""Queries that are answered together."""


@dataclass(frozen=True)
class Options:
    """What `--set` may change."""

    text: Literal["auto", "encoder", "terms"] = option(
        "auto", doc="what reads texts: the encoder, the catalogue's own terms, or the encoder if it knows the language"
    )
    width: int = option(256, doc="numbers of a vector made of terms", low=2, high=1024)
    vision: Path | None = option(None, doc="folder of a version of vision.category whose trunk looks at pictures")
    flat: int = option(20_000, doc="products up to which every vector is compared", low=0, high=10_000_000)


@dataclass(frozen=True)
class Made:
    """The vectors of one kind, and how they were indexed."""

    vectors: Array
    fitted: Fitted
    tower: Any


def train(data: Data, ctx: TrainContext) -> Evaluation:
    """Make vectors and indexes of the catalogue, and judge them by the data's queries. Raises TrainingError."""
    options = ctx.options(Options)
    products = data.table(SCHEMA)
    queries = catalogue.read_queries(data, products)
    texts = _texts(products, options, ctx)
    vision = vision_of(options.vision) if options.vision else None
    images = _images(catalogue.pictures(data, products), vision, options, ctx) if vision else None
    facts = _facts(products.rows, texts, images, vision, ctx.settings)
    _save(facts, products, texts, images, vision, ctx)
    decoder = Decoder(vision.size) if vision else None
    model = _model(products, texts, images, decoder)
    networks = Networks(texts.tower, images.tower if images else None)
    record(model, networks, decoder, queries, ctx)
    asker = _asker(model, networks, products)
    evaluation = judged(queries, catalogue.texts(products), asker, images is not None)
    kinds = {TEXT: texts, **({IMAGE: images} if images else {})}
    recalls = {f"index_recall.{kind}": made.fitted.recall for kind, made in kinds.items()}
    return replace(evaluation, metrics={**evaluation.metrics, "index_recall": min(recalls.values()), **recalls})


def evaluate(data: Data, predict: Predict, ctx: EvaluateContext) -> Evaluation:
    """The served index on the data's queries, or on names of products where there are none."""
    products = data.table(SCHEMA)
    places = _places(products)

    def asker(inputs: Mapping[str, Sequence[Any]]) -> Array:
        return _rows(predict({name: np.array(values, object) for name, values in inputs.items()}), places)

    has_pictures = read_search(ctx.files / FILE).image is not None
    return judged(catalogue.read_queries(data, products), catalogue.texts(products), asker, has_pictures)


def _texts(products: Table, options: Options, ctx: TrainContext) -> Made:
    briefs, whole = catalogue.briefs(products), catalogue.texts(products)
    tower = text_tower(options.text, briefs, whole, options.width, ctx)
    ctx.note(text=tower.facts.tower)
    vectors = tower.vectors("texts", briefs if tower.facts.tower == ENCODER else whole, ctx)
    rows = _some(products.rows, ctx.seed)
    names = [products[catalogue.NAME][row] for row in rows]
    # What people type is shorter than a name, further from every product, and harder for an index.
    tried = [tower.vectors(title, asked, ctx) for title, asked in (("names", names), ("halves", _halves(names)))]
    return Made(vectors, fitted_index(vectors, tried, options.flat, torch.get_num_threads(), "texts"), tower)


def _images(files: Sequence[bytes], vision: Vision, options: Options, ctx: TrainContext) -> Made:
    tower, vectors = image_tower(vision, files, ctx)
    asked = vectors[_some(len(files), ctx.seed)]
    return Made(vectors, fitted_index(vectors, [asked], options.flat, torch.get_num_threads(), "pictures"), tower)


def _halves(names: Sequence[str]) -> list[str]:
    return [name[len(name) // 2 :] for name in names]


def _some(rows: int, seed: int) -> Array:
    return np.sort(np.random.default_rng(seed).permutation(rows)[:TUNING])


def _facts(products: int, texts: Made, images: Made | None, vision: Vision | None, settings: Any) -> Facts:
    tower: TextTower = texts.tower
    image = ImageFacts(vision.size, images.vectors.shape[1], images.fitted.facts) if images and vision else None
    return Facts(products, replace(tower.facts, index=texts.fitted.facts), image, _languages(tower, settings))


def _languages(tower: TextTower, settings: Any) -> tuple[str, ...]:
    """The packaged encoder knows English; another one's language, and that of terms, are known only when stated."""
    knows = "en" if tower.facts.tower == ENCODER and settings.encoder is None else ""
    stated = settings.language or knows
    return (stated,) if stated else ()


def _save(
    facts: Facts, products: Table, texts: Made, images: Made | None, vision: Vision | None, ctx: TrainContext
) -> None:
    ctx.save_json(FILE, facts.plain())
    ctx.save_json(PRODUCTS, {"format": 1, "products": products[ID].tolist()})
    _save_made(TEXT, texts, ctx)
    tower: TextTower = texts.tower
    if tower.facts.tower == TERMS:
        ctx.save_json(VOCABULARY, {"format": 1, "terms": list(tower.terms)})
        ctx.save_tensors(TABLE, {"table": next(tower.network.parameters())})
    if images and vision:
        _save_made(IMAGE, images, ctx)
        centre: ImageTower = images.tower
        ctx.save_tensors(CENTRE, {"centre": centre.centre})
        for name in (VISION_FILE, VISION_WEIGHTS):
            ctx.save(name, (vision.files / name).read_bytes())


def _save_made(kind: str, made: Made, ctx: TrainContext) -> None:
    buffer = io.BytesIO()
    np.save(buffer, made.vectors, allow_pickle=False)
    ctx.save(f"{kind}.npy", buffer.getvalue())
    ctx.save(f"{kind}.index", to_bytes(made.fitted.side.index))  # type: ignore[arg-type]


def _model(products: Table, texts: Made, images: Made | None, decoder: Decoder | None) -> ProductsModel:
    model = ProductsModel()
    sides = {TEXT: texts.fitted.side, **({IMAGE: images.fitted.side} if images else {})}
    model.use(sides, products[ID].tolist(), texts.tower.reader, decoder)
    return model


def _asker(model: ProductsModel, networks: Networks, products: Table) -> Callable[[Mapping[str, Sequence[Any]]], Array]:
    """Asks as serving will, and gives rows of products."""
    places = _places(products)

    def some(inputs: Mapping[str, Sequence[Any]]) -> Array:
        rows = len(next(iter(inputs.values())))
        parts = [{n: v[start : start + AT_ONCE] for n, v in inputs.items()} for start in range(0, rows, AT_ONCE)]
        return np.concatenate([_rows(ask(model, networks, part, FIRST), places) for part in parts])

    return some


def _places(products: Table) -> dict[str, int]:
    return {name: row for row, name in enumerate(products[ID].tolist())}


def _rows(answer: Mapping[str, Any], places: Mapping[str, int]) -> Array:
    return np.array([[places.get(name, -1) for name in row] for row in answer["product_id"].tolist()])
