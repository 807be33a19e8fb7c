"""Texts go through two models and come back, or stay as they are."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainables.augmentation.tiny_models import WORDS
from trainables.augmentation.back_translation import BackTranslation, build_back_translation
from trainables.augmentation.config import AugmentationConfig, TranslationConfig
from trainables.augmentation.models import check_models

TEXTS = ["beautiful jacket kids", "video phone", "garden table lamp chair"] * 3


@pytest.fixture(scope="module")
def translate(encoder_folder: Path, augmentation_config: AugmentationConfig) -> BackTranslation:
    return build_back_translation(encoder_folder, augmentation_config)


@pytest.fixture(scope="module")
def search(encoder_folder: Path, augmentation_config: AugmentationConfig) -> BackTranslation:
    translation = dataclasses.replace(augmentation_config.translation, sample=False)
    config = dataclasses.replace(augmentation_config, translation=translation)
    return build_back_translation(encoder_folder, config)


def test_sampling_gives_others_in_each_epoch_and_a_beam_search_does_not(
    translate: BackTranslation, search: BackTranslation
) -> None:
    sampled = [translate(TEXTS, 1.0, np.random.default_rng(seed)) for seed in (0, 1)]
    searched = [search(TEXTS, 1.0, np.random.default_rng(seed)) for seed in (0, 1)]

    assert sampled[0] != sampled[1]
    assert searched[0] == searched[1]


def test_the_second_model_translates_what_the_first_one_wrote(search: BackTranslation) -> None:
    (abroad,) = search.to.translate(TEXTS[:1], sample=False, seed=0)
    assert abroad is not None
    (home,) = search.back.translate([abroad], sample=False, seed=0)

    assert search(TEXTS[:1], 1.0, np.random.default_rng(0)) == [home]


def test_the_rate_is_the_share_of_translated_texts(translate: BackTranslation) -> None:
    texts = ["video phone jacket"] * 400

    varied = translate(texts, 0.3, np.random.default_rng(0))

    assert np.mean([new != text for new, text in zip(varied, texts, strict=True)]) == pytest.approx(
        0.3, abs=0.07
    )


def test_a_text_that_comes_back_without_its_number_or_tag_stays(translate: BackTranslation) -> None:
    texts = ["phone 12", "not video", "<b>phone</b>"]

    assert translate(texts, 1.0, np.random.default_rng(0)) == texts


def test_a_text_that_is_too_long_for_the_model_stays(translate: BackTranslation) -> None:
    assert translate(["phone " * 40], 1.0, np.random.default_rng(0)) == ["phone " * 40]


def test_torchs_own_generator_is_left_as_it_was(translate: BackTranslation) -> None:
    before = torch.random.get_rng_state()

    translate(TEXTS, 1.0, np.random.default_rng(0))

    assert torch.equal(torch.random.get_rng_state(), before)


def test_marians_own_tokenizer_is_read(
    tmp_path: Path, augmentation_config: AugmentationConfig
) -> None:
    sentencepiece = pytest.importorskip("sentencepiece", reason="the extra augment isn't installed")
    folder = tmp_path / "marian"
    shutil.copytree(str(augmentation_config.translation.to), folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS * 10),
        model_prefix=str(tmp_path / "pieces"),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "pieces.model"))
    pieces = [model.id_to_piece(number) for number in range(model.get_piece_size())]
    known = ["<pad>", *(piece for piece in pieces if piece not in ("<s>", "</s>", "<unk>"))]
    # As many as the random model writes.
    known = ["<pad>", "</s>", "<unk>", *known[1:]][: len(WORDS) + 3]
    (folder / "vocab.json").write_text(json.dumps({piece: n for n, piece in enumerate(known)}))
    for side in ("source.spm", "target.spm"):
        shutil.copy(tmp_path / "pieces.model", folder / side)
    translation = TranslationConfig(to=str(folder), back=str(folder))
    config = dataclasses.replace(augmentation_config, translation=translation)
    check_models(["back_translation"], config)

    varied = build_back_translation(Path(), config)(TEXTS, 1.0, np.random.default_rng(0))

    assert len(varied) == len(TEXTS)
    assert varied != TEXTS


def test_without_sentencepiece_a_marian_tokenizer_is_refused(
    tmp_path: Path, augmentation_config: AugmentationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "marian"
    shutil.copytree(str(augmentation_config.translation.to), folder)
    (folder / "source.spm").touch()
    translation = TranslationConfig(to=str(folder), back=str(folder))
    config = dataclasses.replace(augmentation_config, translation=translation)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    with pytest.raises(
        ValueError, match=r"needs sentencepiece; pip install 'clicktune\[augment\]'"
    ):
        check_models(["back_translation"], config)
