"""A masked-language model fills in whole words that fit, and nothing else changes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM

from trainables.augmentation.config import AugmentationConfig
from trainables.augmentation.masked_word import MaskedWordFill, build_masked_word, fillable_words
from trainables.augmentation.protection import Protection
from trainables.encoder import load_tokenizer


@pytest.fixture(scope="module")
def fill(encoder_folder: Path, augmentation_config: AugmentationConfig) -> MaskedWordFill:
    return build_masked_word(encoder_folder, augmentation_config)


def test_every_free_word_of_the_vocabulary_is_replaced_at_rate_one(fill: MaskedWordFill) -> None:
    (new,) = fill(["Jacket, SHOES (12 red) without laptop zzyzx"], 1.0, np.random.default_rng(0))

    words = new.split()
    assert words[0][0].isupper()
    assert words[0].lower() != "jacket,"
    assert words[0].endswith(",")
    assert words[1].isupper()
    assert words[2:5] == ["(12", "red)", "without"]
    assert words[6] == "zzyzx"


def test_a_chinese_character_gives_way_to_a_character(fill: MaskedWordFill) -> None:
    (new,) = fill(["红沙发 华为手机 12 机"], 1.0, np.random.default_rng(0))

    assert new[0] == "红"
    assert new[1] != "沙"
    assert all(c > "\u4e00" for c in new[1:3])
    assert new[4:6] == "华为"
    assert new[6:8] != "手机"


def test_what_is_filled_in_is_what_the_model_finds_likely(
    fill: MaskedWordFill, masked_language_model: Path
) -> None:
    tokenizer = load_tokenizer(masked_language_model, max_tokens=64)
    encoding = tokenizer.encode("video phone table")
    ids = torch.tensor([encoding.ids])
    ids[0, 2] = tokenizer.token_to_id("[MASK]")
    model = AutoModelForMaskedLM.from_pretrained(masked_language_model).eval()
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, 2]
    likely = sorted(fill.words, key=lambda number: -float(logits[number]))
    likely = [fill.words[n] for n in likely if fill.words[n] != "phone" and fill.words[n].isascii()]

    words = fill(["video phone table"] * 300, 0.2, np.random.default_rng(0))
    alone = {w.split()[1] for w in words if w.startswith("video ") and w.endswith(" table")}

    assert alone - {"phone"} <= set(likely[:16])
    assert len(alone) > 5


def test_a_text_has_the_same_variant_whatever_comes_after_it(fill: MaskedWordFill) -> None:
    text = "video phone table"

    (alone,) = fill([text], 1.0, np.random.default_rng(0))
    first, *_ = fill([text, "shoes " * 30, "gift"], 1.0, np.random.default_rng(0))

    assert first == alone


@pytest.mark.parametrize(
    ("vocabulary", "expected"),
    [
        ({"sofa": 0, "##sofa": 1, "red": 2, "the": 3, "ab": 4, "[MASK]": 5, "机": 6}, {0, 6}),
        ({"\u0120sofa": 0, "sofa": 1, "\u0120red": 2, "<mask>": 3, "\u0120x": 4}, {0}),
        ({"\u2581sofa": 0, "sofa": 1, "\u2581the": 2}, {0}),
        ({"harbor": 0, "sofa": 1}, {1}),
    ],
)
def test_whole_free_words_of_any_vocabulary_are_found(
    vocabulary: dict[str, int], expected: set[int]
) -> None:
    assert set(fillable_words(vocabulary, Protection.of(["Harbor"]))) == expected


def test_a_model_that_is_not_named_is_asked_for(
    encoder_folder: Path, augmentation_config: AugmentationConfig
) -> None:
    config = dataclasses.replace(augmentation_config, masked_language_model=None)

    with pytest.raises(ValueError, match=r"needs augmentation\.masked_language_model"):
        build_masked_word(encoder_folder, config)
