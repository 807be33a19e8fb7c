"""Synonyms are near neighbours in the encoder's own embeddings."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from trainables.augmentation.synonym import SynonymReplacement, build_synonym, find_neighbours
from trainables.augmentation.words import is_protected
from trainables.encoder import EncoderConfig, find_encoder


@pytest.fixture(scope="module")
def synonym() -> SynonymReplacement:
    return build_synonym(find_encoder(EncoderConfig()))


@pytest.mark.parametrize(
    ("word", "other"), [("sofa", "couch"), ("couch", "sofa"), ("shoes", "sneakers")]
)
def test_words_of_one_meaning_are_neighbours(
    synonym: SynonymReplacement, word: str, other: str
) -> None:
    assert other in synonym.neighbours[word]


def test_no_protected_word_is_replaced_or_inserted(synonym: SynonymReplacement) -> None:
    for word, others in synonym.neighbours.items():
        assert not is_protected(word)
        assert not any(is_protected(other) for other in others)
        assert word not in others


@pytest.mark.parametrize(
    ("text", "expected"),
    [("sofa", "couch"), ("Sofa", "Couch"), ("SOFA", "COUCH"), ("(sofa)!", "(couch)!")],
)
def test_case_and_punctuation_stay(text: str, expected: str) -> None:
    replace = SynonymReplacement({"sofa": ("couch",)})

    assert replace([text], 1.0, np.random.default_rng(0)) == [expected]


def test_several_words_of_a_text_are_replaced_in_place() -> None:
    replace = SynonymReplacement({"sofa": ("couch",), "kids": ("children",)})

    varied = replace(["a sofa, for kids' sofa"], 1.0, np.random.default_rng(0))

    assert varied == ["a couch, for children' couch"]


def test_neighbours_are_sorted_by_cosine_and_limited() -> None:
    angles = np.array([0.0, 0.1, 0.2, 0.3, 0.35, 0.4, 3.0])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    embeddings *= np.arange(1, 8)[:, None]
    words = list("abcdefg")

    found = find_neighbours(words, embeddings)

    assert found["a"] == ("b", "c", "d", "e")
    assert "g" not in found


def test_blocks_agree_with_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    words = [f"w{number}" for number in range(50)]
    whole = find_neighbours(words, embeddings)

    monkeypatch.setattr("trainables.augmentation.synonym.BLOCK_ROWS", 7)

    assert find_neighbours(words, embeddings) == whole


def test_a_word_without_embedding_has_no_neighbours() -> None:
    assert find_neighbours(["a", "b"], np.zeros((2, 4), np.float32)) == {}


def test_the_table_is_built_once_for_an_encoder(synonym: SynonymReplacement) -> None:
    assert build_synonym(find_encoder(EncoderConfig())) is synonym


def write_encoder(folder: Path, tensor: str) -> None:
    vocab = {"[PAD]": 0, "sofa": 1, "couch": 2, "##s": 3, "red": 4, "London": 5}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}}))
    save_file({tensor: torch.ones(6, 4, dtype=torch.bfloat16)}, folder / "model.safetensors")


def test_an_encoder_in_bfloat16_with_prefixed_names_is_read(tmp_path: Path) -> None:
    write_encoder(tmp_path, "bert.embeddings.word_embeddings.weight")

    assert build_synonym(tmp_path).neighbours == {"sofa": ("couch",), "couch": ("sofa",)}


def test_an_encoder_without_word_embeddings_is_refused(tmp_path: Path) -> None:
    write_encoder(tmp_path, "wte.weight")

    with pytest.raises(ValueError, match="needs a BERT's word embeddings"):
        build_synonym(tmp_path)
