"""What the tests of semantic.encoder share: a build context, served encoders and small folders to drop in."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

from mercato_plugin import Batch, GraphSpec
from mercato_semantic import EncoderSettings, SentenceEncoderModel
from mercato_semantic.building import build
from mercato_semantic.encoder import SentenceEncoder

WORDS = [*"红色跑鞋深红运动不锈钢水壶", "red", "shoe", "##s"]


@dataclass
class Context:
    """A build context whose saved files lie where `load` finds them."""

    files: Path
    settings: EncoderSettings = field(default_factory=EncoderSettings)
    version: int | None = None

    def save(self, name: str, content: bytes) -> None:
        (self.files / name).write_bytes(content)

    def save_estimator(self, estimator: Any, inputs: Any, name: str = "model") -> Path:
        raise AssertionError("an encoder saves no estimator")


@dataclass
class Served:
    """An encoder as built, and the model loaded from what build saved."""

    model: SentenceEncoderModel
    encoder: SentenceEncoder
    context: Context

    @property
    def graph(self) -> GraphSpec:
        return self.model.spec(self.context).graphs["model"]

    def preprocess(self, texts: Sequence[str]) -> tuple[Batch, list[list[int]]]:
        """The batch as preprocess leaves it, and each text's token ids."""
        batch = Batch(inputs={"text": np.array(texts, dtype=object)}, rows=len(texts))
        ragged = self.model.preprocess(batch)["input_ids"]
        return batch, [row.tolist() for row in np.split(ragged.values, np.cumsum(ragged.lengths)[:-1])]

    def tokens(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids padded to the longest text, and lengths."""
        rows = [torch.tensor(row) for row in self.preprocess(texts)[1]]
        pad = self.graph.inputs["input_ids"].pad
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
        return padded, torch.tensor([len(row) for row in rows])

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        embedding: torch.Tensor = self.encoder(*self.tokens(texts))
        return embedding


def serve(files: Path, settings: EncoderSettings) -> Served:
    """Build the encoder of `settings`, then load the model as a worker does."""
    context = Context(files, settings)
    encoder = build(context)
    model = SentenceEncoderModel()
    model.load(context)
    return Served(model, encoder, context)


def write_bert(folder: Path) -> Path:
    """A random BERT of width 32 with 40 positions, whose tokenizer knows a few Chinese characters."""
    return _write(folder, BertModel, BertConfig, ["[PAD]", "[UNK]", "[CLS]", "[SEP]"], positions=40)


def write_roberta(folder: Path) -> Path:
    """A random XLM-RoBERTa: its padding id is 1 and its positions start at 2, which leaves 40 of 42."""
    return _write(folder, XLMRobertaModel, XLMRobertaConfig, ["[UNK]", "[PAD]", "[CLS]", "[SEP]"], positions=42)


def edit_json(file: Path, **changes: object) -> None:
    """Set keys of a JSON file, which is created when it is absent."""
    file.parent.mkdir(exist_ok=True)
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**content, **changes}))


def reference(
    folder: Path, network: type[Any], ids: torch.Tensor, lengths: torch.Tensor, pooling: str = "mean"
) -> torch.Tensor:
    """The network of transformers in float64 with a mask, then pooling and normalisation."""
    model = network.from_pretrained(folder, add_pooling_layer=False, local_files_only=True).double().eval()
    mask = torch.arange(ids.shape[1])[None, :] < lengths[:, None]
    with torch.no_grad():
        hidden = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    mean = (hidden * mask[:, :, None]).sum(1) / lengths[:, None]
    return torch.nn.functional.normalize(hidden[:, 0] if pooling == "cls" else mean, dim=-1)


def _write(folder: Path, network: type[Any], config: type[Any], special: list[str], positions: int) -> Path:
    tokenizer = _tokenizer([*special, *dict.fromkeys(WORDS)])
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    pad = special.index("[PAD]")
    network(
        config(
            **sizes,
            vocab_size=tokenizer.get_vocab_size(),
            max_position_embeddings=positions,
            pad_token_id=pad,
            initializer_range=0.5,
        )
    ).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _tokenizer(words: list[str]) -> Tokenizer:
    """A WordPiece tokenizer that, like the one of the weights package, pads to 128 until told otherwise."""
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(handle_chinese_chars=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(128)
    tokenizer.enable_padding(length=128)
    return tokenizer
