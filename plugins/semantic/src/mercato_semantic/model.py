"""The model semantic.encoder: signature, settings, tokenisation and examples; imports no build tool."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from mercato_plugin import (
    Axis,
    Batch,
    BatchPolicy,
    BuildContext,
    Example,
    GraphSpec,
    LoadContext,
    Model,
    ModelSpec,
    Ragged,
    SpecContext,
    Tensor,
    Text,
    setting,
)
from mercato_semantic.folder import MINILM, MODEL, EncoderConfig, read_config

_LONG = "Waterproof trail running shoe with a rock plate, a wide toe box and recycled laces. " * 24
_TEXTS = (
    ("red running shoes", "crimson sneakers", "stainless steel kettle"),
    ("", "M", "👟🔥 NEW: women's air-cushion trainers, 30% off!!", "iPhone 15 Pro 256GB, natürliches Titan, entsperrt"),
    ("Nike 跑鞋 42 码 红色", "Does this kettle switch off by itself when the water boils?"),
    (_LONG,),
)


@dataclass(frozen=True)
class EncoderSettings:
    """What an operator may set for semantic.encoder."""

    encoder: Path | None = setting(
        None, doc="folder of a BERT-family sentence encoder to serve in place of the English MiniLM-L6"
    )
    language: str = setting("", doc="BCP 47 tag of that encoder's language, such as zh; mul for several")


class SentenceEncoderModel(Model):
    """Texts to unit vectors: texts that mean the same lie close together."""

    settings = EncoderSettings
    build: Any = "mercato_semantic.building:build"
    _tokenizer: Tokenizer

    def spec(self, ctx: SpecContext) -> ModelSpec:
        """The specification, with the sizes of the encoder in the settings."""
        folder = ctx.settings.encoder
        config = MINILM if folder is None else read_config(folder)
        return ModelSpec(
            name=MODEL,
            inputs={"text": Text(max_bytes=8192, overflow="refuse", doc=f"cut at {config.max_tokens} tokens")},
            outputs={"embedding": Tensor("float32", ("batch", config.hidden), doc="unit vector of the text")},
            graph=_graph(config),
            opset=24,
            batch=BatchPolicy(max_rows=64, run_rows=16, max_padding=0.1),
            doc="Sentence encoder: the dot product of two embeddings is their cosine similarity.",
            license="Apache-2.0" if folder is None else "",
            languages=_languages(ctx.settings),
        )

    def examples(self, ctx: BuildContext) -> Iterable[Example]:
        """Shop texts of 2 tokens up to the limit."""
        return [Example({"text": list(texts)}) for texts in _TEXTS]

    def load(self, ctx: LoadContext) -> None:
        """Read the tokenizer that build saved."""
        # The tokenizer's pool would take every core beside the session's own threads, and warns when its
        # process forks; what the operator has set wins.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._tokenizer = Tokenizer.from_file(str(ctx.files / "tokenizer.json"))
        # A caller who writes [SEP] means these letters, not the mark that ends a text.
        self._tokenizer.encode_special_tokens = True

    def preprocess(self, batch: Batch) -> Mapping[str, Any]:
        """Token ids of all texts at once; rows cut at the encoder's limit are noted."""
        encodings = self._tokenizer.encode_batch_fast(batch.inputs["text"].tolist())
        for row, encoding in enumerate(encodings):
            if encoding.overflowing:
                batch.truncate(row, "text")
        return {"input_ids": Ragged.from_rows([encoding.ids for encoding in encodings], "int64")}


def _graph(config: EncoderConfig) -> GraphSpec:
    length = Axis("length", max=config.max_tokens)
    ids = Tensor("int64", ("batch", length), low=0, high=config.vocab - 1, ragged=True, pad=config.pad)
    return GraphSpec(
        inputs={
            "input_ids": ids,
            "lengths": Tensor("int64", ("batch",), low=1, high=config.max_tokens),
        },
        outputs={"embedding": Tensor("float32", ("batch", config.hidden))},
        lengths="lengths",
    )


def _languages(settings: EncoderSettings) -> tuple[str, ...]:
    """The bundled weights know English; a folder's language is known only when it is stated."""
    stated = settings.language or ("en" if settings.encoder is None else "")
    return (stated,) if stated else ()
