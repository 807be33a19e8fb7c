"""Finding a BERT, and saying clearly why one can't be used."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainables.encoder import (
    EncoderConfig,
    encoder_fingerprint,
    find_encoder,
    load_bert,
    load_tokenizer,
)


@pytest.fixture
def folder(tiny_encoder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_encoder, tmp_path / "encoder"))


def test_the_packaged_encoder_is_found_without_network() -> None:
    folder = find_encoder(EncoderConfig(name="minilm-l6"))

    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 6


def test_a_local_folder_is_an_encoder(folder: Path) -> None:
    assert find_encoder(EncoderConfig(name=str(folder), max_tokens=16)) == folder.resolve()


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()

    with pytest.raises(ValueError, match=f"lacks {file}"):
        find_encoder(EncoderConfig(name=str(folder)))


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere' does not exist"):
        find_encoder(EncoderConfig(name=str(tmp_path / "nowhere")))


def test_another_architecture_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))

    with pytest.raises(ValueError, match="model_type 'gpt2'; ClickTune fine-tunes BERT"):
        find_encoder(EncoderConfig(name=str(folder)))


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_configuration_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)

    with pytest.raises(ValueError, match=r"is not JSON|model_type None"):
        find_encoder(EncoderConfig(name=str(folder)))


def test_more_tokens_than_positions_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"max_tokens is 512, but .* has only \d+ positions"):
        find_encoder(EncoderConfig(name=str(folder), max_tokens=512))


def test_an_unknown_name_says_where_it_was_looked_for() -> None:
    with pytest.raises(ValueError, match=r"not packaged \(minilm-l6\), not a folder, and could"):
        find_encoder(EncoderConfig(name="no-such-bert"))


def test_the_fingerprint_changes_with_the_weights(folder: Path, tiny_encoder: Path) -> None:
    before = encoder_fingerprint(folder)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)

    assert before == encoder_fingerprint(tiny_encoder)
    assert encoder_fingerprint(folder) != before


def test_the_tokenizer_truncates_and_never_pads(tiny_encoder: Path) -> None:
    tokenizer = load_tokenizer(tiny_encoder, max_tokens=8)

    lengths = [len(e.ids) for e in tokenizer.encode_batch(["a", "a " * 50])]

    assert lengths == [3, 8]


def test_dropout_is_set_and_the_pooler_is_left_out(tiny_encoder: Path) -> None:
    bert = load_bert(tiny_encoder, dropout=0.25)

    assert bert.pooler is None
    assert bert.config.hidden_dropout_prob == bert.config.attention_probs_dropout_prob == 0.25


def test_models_share_weights_only_where_they_may(tiny_encoder: Path) -> None:
    first, second = (load_bert(tiny_encoder, dropout=0.1, share_weights=True) for _ in range(2))
    own = load_bert(tiny_encoder, dropout=0.1)

    name = "encoder.layer.0.output.dense.weight"
    weights = [model.get_parameter(name) for model in (first, second, own)]
    assert weights[0].data_ptr() == weights[1].data_ptr() != weights[2].data_ptr()
    torch.testing.assert_close(weights[2], weights[0])
    # What is done to one model's parameters, such as freezing, isn't done to another's.
    first.requires_grad_(requires_grad=False)
    assert second.get_parameter(name).requires_grad


def test_each_model_has_its_own_dropout(tiny_encoder: Path) -> None:
    low, high = (load_bert(tiny_encoder, dropout=p, share_weights=True) for p in (0.1, 0.4))

    for model, probability in ((low, 0.1), (high, 0.4)):
        found = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
        assert found == {probability}
        assert model.config.hidden_dropout_prob == probability


def test_models_have_nothing_but_weights_in_common(tiny_encoder: Path) -> None:
    first, second = (load_bert(tiny_encoder, dropout=0.1, share_weights=True) for _ in range(2))
    kept: list[torch.nn.Module] = []

    first.encoder.layer[0].register_forward_hook(lambda module, *_: kept.append(module))
    first.embeddings.position_ids += 1
    second(input_ids=torch.tensor([[1, 2]]))

    assert not kept
    assert second.embeddings.position_ids[0, 0] == 0
    assert not {id(module) for module in first.modules()} & {id(m) for m in second.modules()}
    configs = {id(m.config) for m in second.modules() if hasattr(m, "config")}
    assert configs == {id(second.config)} != {id(first.config)}


def test_a_changed_encoder_is_read_again(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder, folder)
    name = "encoder.layer.0.output.dense.weight"
    before = load_bert(folder, dropout=0.0).get_parameter(name).detach().clone()
    weights = load_file(folder / "model.safetensors")
    weights[name] = weights[name] + 1
    save_file(weights, tmp_path / "new", metadata={"format": "pt"})
    (tmp_path / "new").replace(folder / "model.safetensors")

    after = load_bert(folder, dropout=0.0).get_parameter(name).detach()

    torch.testing.assert_close(after, before + 1)
