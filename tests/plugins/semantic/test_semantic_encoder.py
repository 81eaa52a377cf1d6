"""The English encoder: parity with transformers, padding, tokens and meaning."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from tests.plugins.semantic.encoders import Served, reference
from transformers import BertModel

from mercato_plugin import Batch
from mercato_semantic.building import packaged_folder, serving_tokenizer
from mercato_semantic.folder import MINILM, read_config

LONG = "waterproof trail running shoe " * 100


def test_the_constants_are_those_of_the_weights_package() -> None:
    assert read_config(packaged_folder()) == MINILM


def test_parity_with_transformers_in_float64(minilm: Served) -> None:
    ids, lengths = minilm.tokens(["red shoes", "", "Does this kettle 🔥 switch off by itself?", LONG])
    ours = copy.deepcopy(minilm.encoder).double()(ids, lengths)
    theirs = reference(packaged_folder(), BertModel, ids, lengths)
    assert ours.dtype == torch.float64
    assert (ours - theirs).abs().max() <= 1e-12


def test_what_stands_behind_a_row_changes_nothing(minilm: Served) -> None:
    encoder = copy.deepcopy(minilm.encoder).double()
    ids, lengths = minilm.tokens(["red shoes", "a stainless steel kettle with a long spout"])
    wide = torch.full((2, ids.shape[1] + 9), 7592)
    wide[:, : ids.shape[1]] = ids
    wide[0, lengths[0] : ids.shape[1]] = 4313
    together = encoder(ids, lengths)
    alone = encoder(ids[:1, : lengths[0]], lengths[:1])
    assert (encoder(wide, lengths) - together).abs().max() <= 1e-12
    assert (alone - together[:1]).abs().max() <= 1e-12


def test_embeddings_are_finite_unit_vectors(minilm: Served) -> None:
    embeddings = minilm.embed(["", "red shoes", "👟", "红色跑鞋", LONG])
    assert embeddings.shape == (5, 384)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(5), atol=1e-6, rtol=0)


def test_running_shoes_are_nearer_to_sneakers_than_to_a_kettle(minilm: Served) -> None:
    shoes, sneakers, kettle = minilm.embed(["red running shoes", "crimson sneakers", "stainless steel kettle"])
    assert shoes @ sneakers > shoes @ kettle + 0.3


def test_two_words_are_four_ids(minilm: Served) -> None:
    assert minilm.preprocess(["red shoes"])[1] == [[101, 2417, 6007, 102]]


def test_an_empty_text_is_its_two_marks(minilm: Served) -> None:
    assert minilm.preprocess([""])[1] == [[101, 102]]


@pytest.mark.parametrize("mark", ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"])
def test_a_mark_in_a_text_is_its_letters(minilm: Served, mark: str) -> None:
    [[first, *inner, last]] = minilm.preprocess([f"red {mark} shoe"])[1]
    [[_, *spelt, _]] = minilm.preprocess([f"red [ {mark[1:-1].lower()} ] shoe"])[1]
    assert (first, last) == (101, 102)
    assert inner == spelt and not {0, 100, 101, 102, 103} & set(inner)


def test_only_what_exceeds_256_tokens_is_cut_and_noted(minilm: Served) -> None:
    batch, ids = minilm.preprocess(["shoe", "shoe " * 254, "shoe " * 255])
    assert [len(row) for row in ids] == [3, 256, 256]
    assert batch.truncated == {"text": {2}}
    assert ids[2][-1] == 102


def test_the_tokenizer_file_is_the_same_every_time() -> None:
    first, second = (serving_tokenizer(packaged_folder(), MINILM) for _ in range(2))
    assert first == second


def test_examples_are_texts_of_several_lengths(minilm: Served) -> None:
    texts = [text for example in minilm.model.examples(minilm.context) for text in example.inputs["text"]]
    lengths = {len(row) for row in minilm.preprocess(texts)[1]}
    assert {2, 256} < lengths
    assert max(len(text.encode()) for text in texts) <= 8192


def test_the_specification_bounds_the_graph(minilm: Served) -> None:
    spec, ids = minilm.model.spec(minilm.context), minilm.graph.inputs["input_ids"]
    assert spec.languages == ("en",)
    assert (ids.high, ids.pad, minilm.graph.inputs["lengths"].high) == (30521, 0, 256)
    assert minilm.graph.outputs["embedding"].row_axes == (384,)


def test_preprocess_gives_int64(minilm: Served) -> None:
    batch = Batch(inputs={"text": np.array(["red shoes", ""], dtype=object)}, rows=2)
    ragged = minilm.model.preprocess(batch)["input_ids"]
    assert ragged.values.dtype == ragged.lengths.dtype == np.int64
    assert ragged.lengths.tolist() == [4, 2]


def test_import_brings_no_build_tool() -> None:
    code = "import sys, mercato_semantic; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"mercato_semantic", "tokenizers"} <= set(done.stdout.split())
    assert not {"torch", "safetensors", "sklearn", "onnx", "transformers"} & set(done.stdout.split())
