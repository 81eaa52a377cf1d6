"""Training: the networks that make vectors of texts and pictures, with what reads their inputs."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.extmath import randomized_svd
from tokenizers import Tokenizer
from torch import nn

from mercato_plugin import FolderError, Ragged
from mercato_reviews.analyzer import ANALYZERS, fitting
from mercato_reviews.encoding import encoder_hash, encoder_of
from mercato_search.facts import ENCODER, FLAT, TERMS, IndexFacts, TextFacts
from mercato_search.networks import IMAGE_WIDTH, ImageTower, TermsTower, spread
from mercato_search.texts import EncoderReader, Reader, TermReader
from mercato_semantic.building import load_encoder, serving_tokenizer
from mercato_training import TrainContext, TrainingError
from mercato_vision.building import load_network
from mercato_vision.facts import FILE as VISION_FILE
from mercato_vision.facts import read_facts
from mercato_vision.pictures import BadPicture, Decoder

Array = npt.NDArray[Any]

UNFITTED = IndexFacts(FLAT)
MOST_UNKNOWN = 0.1
"""Share of unknown tokens above which an encoder does not know the language."""

UNKNOWN = ("[UNK]", "<unk>")
AT_ONCE = 32
"""Pictures that are decoded and computed together."""


@dataclass(frozen=True)
class TextTower:
    """A network and its reader; `terms` are the catalogue's where it reads terms."""

    facts: TextFacts
    network: nn.Module
    reader: Reader
    terms: tuple[str, ...] = ()

    def vectors(self, title: str, texts: Sequence[str], ctx: TrainContext) -> Array:
        """Unit vectors of all texts, float32 of shape (texts, width); zeros for a text of which nothing is known."""
        read = self.reader.read(texts)
        found = np.zeros((len(texts), self.facts.width), np.float32)
        if len(read.rows):
            sizes = next(iter(read.inputs.values())).lengths
            parts = {name: np.split(value.values, np.cumsum(sizes)[:-1]) for name, value in read.inputs.items()}

            def compute(rows: Array) -> torch.Tensor:
                return self.run({name: [rows_of[row] for row in rows] for name, rows_of in parts.items()})

            found[read.rows] = ctx.computed(title, len(sizes), compute, sizes=sizes.tolist()).float().cpu().numpy()
        return found

    def run(self, inputs: Mapping[str, Sequence[Array]]) -> torch.Tensor:
        """The network's vectors of rows of ids, or of terms and weights, on its device and in its precision."""
        parameter = next(self.network.parameters())
        padded = [
            nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True, padding_value=pad)
            for rows, pad in zip(inputs.values(), (self.facts.pad, 0), strict=False)
        ]
        if self.facts.tower == ENCODER:
            padded.append(torch.tensor([len(row) for row in inputs["input_ids"]]))
        exact = [each.to(parameter.dtype) if each.is_floating_point() else each for each in padded]
        with torch.inference_mode():
            vectors: torch.Tensor = self.network(*(each.to(parameter.device) for each in exact))
        return vectors


@dataclass(frozen=True)
class Networks:
    """The towers in place of their exported graphs, for the model to search with where it is trained."""

    text: TextTower
    image: ImageTower | None

    def run(self, inputs: Mapping[str, Any], graph: str = "model") -> dict[str, Array]:
        """`vector` of a graph, float32."""
        if graph == "text":
            rows = {name: np.split(value.values, np.cumsum(value.lengths)[:-1]) for name, value in inputs.items()}
            return {"vector": self.text.run(rows).float().cpu().numpy()}
        assert self.image is not None
        with torch.inference_mode():
            vectors = self.image(torch.from_numpy(inputs["pixels"]).to(self.image.centre.device))
        return {"vector": vectors.float().cpu().numpy()}

    def exact(self) -> "Networks":
        """The same in float64 on the CPU."""
        text = replace(self.text, network=copy.deepcopy(self.text.network).cpu().double())
        return Networks(text, None if self.image is None else copy.deepcopy(self.image).cpu().double())


@dataclass(frozen=True)
class Vision:
    """A folder of vision.category whose trunk makes vectors of pictures, `size` pixels a side."""

    files: Path
    size: int


def text_tower(choice: str, briefs: Sequence[str], texts: Sequence[str], width: int, ctx: TrainContext) -> TextTower:
    """The tower that the option names; `auto` is the encoder where it knows the language of the texts."""
    if choice == TERMS:
        return terms_tower(texts, width, ctx)
    tower, unknown = encoder_tower(briefs, ctx)
    ctx.note(unknown_tokens=round(unknown, 4))
    if choice == ENCODER or unknown <= MOST_UNKNOWN:
        return tower
    ctx.report.say(
        f"{unknown:.0%} of the tokens are unknown to the encoder, so texts are read by the catalogue's own terms; "
        "set encoder to one that knows the language to read them by it"
    )
    return terms_tower(texts, width, ctx)


def encoder_tower(texts: Sequence[str], ctx: TrainContext) -> tuple[TextTower, float]:
    """The settings' encoder, and the share of the texts' tokens that it does not know."""
    folder, config = encoder_of(ctx.settings)
    reader = EncoderReader(Tokenizer.from_str(serving_tokenizer(folder, config).decode()))
    facts = TextFacts(
        ENCODER, config.hidden, UNFITTED, config.vocab, encoder_hash(folder, config), config.pooling, config.pad,
        config.max_tokens,
    )  # fmt: skip
    tower = TextTower(facts, load_encoder(folder, config).to(ctx.device), reader)
    return tower, _unknown(reader, texts)


def terms_tower(texts: Sequence[str], width: int, ctx: TrainContext) -> TextTower:
    """Latent semantic analysis of the texts: terms weighed by their rarity, projected on the main directions."""
    analyzer = fitting(texts)
    counted = TfidfVectorizer(analyzer=ANALYZERS[analyzer], sublinear_tf=True, max_features=MOST_TERMS, min_df=1)
    try:
        weighed = counted.fit_transform(texts)
    except ValueError:
        raise TrainingError(f"{ctx.model}: the products' texts hold no term; bring texts with words") from None
    width = min(width, min(weighed.shape))
    _, _, directions = randomized_svd(weighed, width, random_state=ctx.seed)
    # A vector's own length drops out, so the lengths of TF-IDF's rows need not be known.
    table = torch.from_numpy((directions * counted.idf_).T.astype(np.float32))
    terms = tuple(counted.get_feature_names_out().tolist())
    facts = TextFacts(TERMS, width, UNFITTED, len(terms), analyzer=analyzer)
    return TextTower(facts, TermsTower(table).to(ctx.device).eval(), TermReader(terms, analyzer), terms)


MOST_TERMS = 20_000
"""Terms of a catalogue that are kept, the most frequent ones."""


def vision_of(folder: Path) -> Vision:
    """A model folder of vision.category, given as the folder of a version. Raises TrainingError."""
    try:
        files = folder / "files"
        return Vision(files, read_facts(files / VISION_FILE).size)
    except FolderError as error:
        raise TrainingError(
            f"--set vision={folder.name}: {error}; expected a version's folder, such as models/vision.category/1"
        ) from None


def image_tower(vision: Vision, files: Sequence[bytes], ctx: TrainContext) -> tuple[ImageTower, Array]:
    """The tower with the catalogue's mean picture at its centre, and the vectors of the pictures.

    Vectors are float32 of shape (pictures, features), zeros where a picture is missing or damaged.
    """
    raw = ImageTower(load_network(vision.files).to(ctx.device), torch.zeros(IMAGE_WIDTH, device=ctx.device)).eval()
    features, is_there = _features(raw, Decoder(vision.size), files, ctx)
    if not is_there.any():
        raise TrainingError(f"{ctx.model}: no product has a picture that can be decoded; leave out --set vision=...")
    if missing := int((~is_there).sum()):
        ctx.report.say(f"{missing} of {len(files)} products have no picture that can be decoded")
    ctx.note(products_without_picture=missing)
    centre = features[is_there].mean(dim=0)
    tower = ImageTower(raw.network, centre.to(ctx.device)).eval()
    vectors = spread(features, centre)
    vectors[~is_there] = 0.0
    return tower, vectors.numpy()


def _features(raw: ImageTower, decoder: Decoder, files: Sequence[bytes], ctx: TrainContext) -> tuple[torch.Tensor, Any]:
    """Features of all pictures on the CPU, and which there are."""

    def compute(rows: Array) -> torch.Tensor:
        found = decoder.decode([files[row] for row in rows])
        blank = np.zeros((decoder.size, decoder.size, 3), np.uint8)
        pixels = np.stack([blank if isinstance(picture, BadPicture) else picture for picture in found])
        there = torch.tensor([[not isinstance(picture, BadPicture)] for picture in found])
        with torch.inference_mode():
            features = raw.features(torch.from_numpy(pixels).to(raw.centre.device))
        return torch.cat((features, there.to(features)), dim=1)

    found = ctx.computed("pictures", len(files), compute, batch_rows=AT_ONCE).cpu()
    return found[:, :-1], found[:, -1].numpy() > 0


def _unknown(reader: EncoderReader, texts: Sequence[str]) -> float:
    read: Ragged = reader.read(list(texts[:SAMPLED])).inputs["input_ids"]
    names = (reader.tokenizer.token_to_id(name) for name in UNKNOWN)
    return float(np.isin(read.values, [number for number in names if number is not None]).mean())


SAMPLED = 2000
"""Products by which an encoder is held against the language."""
