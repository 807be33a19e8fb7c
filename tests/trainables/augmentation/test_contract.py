"""What every augmentation must do."""

import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spaces.trial_config import Augmentation
from trainables.augmentation import OPERATIONS, Operation
from trainables.augmentation.config import AugmentationConfig
from trainables.augmentation.protection import Protection

PROTECTION = Protection.of(("Harbor", "Acme Tools", "华为"))
TEXTS = [
    "Harbor Premium Waterproof Jacket, Navy, size XL (2 pack)",
    "Couch without armrests - not foldable, 120 cm, sugar-free",
    "sofa",
    "don't",
    "沙发 红色 三人座",
    "华为手机 蓝色 128GB 新款 手机 壳",
    "沙发",
    "😀",
    "Kettle 😀 1.7L çay",
    "  beautiful   shoes  ",
    "BEAUTIFUL SHOES FOR KIDS",
    "!!!",
    '<p class="strong">Beautiful <b>sofa</b> &amp; couch</p> <br> video',
    "laptop; 16GB, 15.6 inch | by Acme's tools; kids video",
    '"model 5" TV, 55" screen, phone',
    "very long text about shoes and kids " * 100,
]
PER_WORD = ("synonym", "wordnet", "word_dropout", "word_swap", "word_insertion", "masked_word")
"""Operations whose rate is a share of words."""
WORDS = [
    *["sofa", "Couch", "red", "Navy", "XL", "12", "12cm", "16 GB", '5"', '"', "7 inches", "not"],
    *["free", "SHOES", "kids", "Stop", "USB-C", "沙发", "红沙发", "😀", "don't", "x", ";", "|"],
    *["<b>", "</b>", "<a href='#'>", "&amp;", "&", "<", "Harbor", "harbor's", "华为手机", "phone"],
]
GLUED = [*WORDS, "V", "kg", "no", "\U00020000", "耳机", "黑色", "的"]


@pytest.fixture(params=OPERATIONS, scope="module")
def operation(
    request: pytest.FixtureRequest, encoder_folder: Path, augmentation_config: AugmentationConfig
) -> Operation:
    return OPERATIONS[request.param](encoder_folder, augmentation_config)


def test_a_trial_may_name_every_operation_and_no_other() -> None:
    assert set(OPERATIONS) == set(get_args(Augmentation)) - {"none"}


def test_rate_zero_changes_nothing(operation: Operation) -> None:
    assert operation(TEXTS, 0.0, np.random.default_rng(0)) == TEXTS


def test_no_texts_give_no_texts(operation: Operation) -> None:
    assert operation([], 0.5, np.random.default_rng(0)) == []


def test_originals_stay_as_they_are(operation: Operation) -> None:
    texts = list(TEXTS)

    operation(texts, 1.0, np.random.default_rng(0))

    assert texts == TEXTS


def test_the_same_generator_gives_the_same_texts(operation: Operation) -> None:
    texts = TEXTS * 20
    first, again, other = (operation(texts, 0.3, np.random.default_rng(seed)) for seed in (0, 0, 1))

    assert first == again
    assert first != other


def test_no_number_depends_on_another_generator(operation: Operation) -> None:
    np.random.seed(0)  # noqa: NPY002 - the global state is what is tested
    first = operation(TEXTS, 0.3, np.random.default_rng(0))
    np.random.seed(1)  # noqa: NPY002

    assert operation(TEXTS, 0.3, np.random.default_rng(0)) == first


def test_something_changes(operation: Operation) -> None:
    texts = ["beautiful shoes phone video jacket couch laptop"] * 5

    varied = operation(texts, 1.0, np.random.default_rng(0))

    assert varied != texts


TAG = re.compile(r"<[^<>]*>|&#?\w+;")


def check_contract(operation: Operation, texts: list[str], rate: float, seed: int) -> None:
    varied = operation(texts, rate, np.random.default_rng(seed))

    assert len(varied) == len(texts)
    for text, new in zip(texts, varied, strict=True):
        assert isinstance(new, str)
        assert new.strip() or not text.strip()
        assert PROTECTION.count(new) == PROTECTION.count(text)
        assert TAG.findall(new) == TAG.findall(text)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.99, 1.0])
def test_protected_words_stay_and_no_text_becomes_blank(operation: Operation, rate: float) -> None:
    for seed in range(4):
        check_contract(operation, TEXTS, rate, seed)


@settings(max_examples=40, deadline=None)
@example(texts=["0 V\U00020000"], rate=1.0, seed=0)
@given(
    texts=st.lists(
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
            st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join),
            # Chinese and other scripts without a space between them.
            st.lists(st.sampled_from([*GLUED, " "]), min_size=1, max_size=9).map("".join),
        ).filter(str.strip),
        max_size=8,
    ),
    rate=st.floats(0, 1),
    seed=st.integers(0, 9),
)
@pytest.mark.parametrize("name", OPERATIONS)
def test_any_text_keeps_the_contract(
    encoder_folder: Path,
    augmentation_config: AugmentationConfig,
    name: str,
    texts: list[str],
    rate: float,
    seed: int,
) -> None:
    operation = OPERATIONS[name](encoder_folder, augmentation_config)

    check_contract(operation, texts, rate, seed)


@pytest.mark.parametrize("name", PER_WORD)
def test_the_rate_is_the_share_of_changed_words(
    encoder_folder: Path, augmentation_config: AugmentationConfig, name: str
) -> None:
    words = ["jacket", "shoes", "phone", "kids", "video"]
    texts = [" ".join(words)] * 2_000

    operation = OPERATIONS[name](encoder_folder, augmentation_config)

    varied = operation(texts, 0.2, np.random.default_rng(0))

    found = [text.split() for text in varied]
    if name == "word_insertion":
        changed = sum(len(row) - 5 for row in found)
    elif name == "word_dropout":
        changed = sum(5 - len(row) for row in found)
    else:
        changed = sum(one != other for row in found for one, other in zip(words, row, strict=True))
    # Two swaps may undo each other.
    assert changed / 10_000 == pytest.approx(0.2, abs=0.03 if name == "word_swap" else 0.02)
