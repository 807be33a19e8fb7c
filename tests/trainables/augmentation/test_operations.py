"""What every augmentation must do."""

import re
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces.trial_config import Augmentation
from trainables.augmentation import OPERATIONS, Operation
from trainables.augmentation.words import is_protected
from trainables.encoder import EncoderConfig, find_encoder

TEXTS = [
    "Harbor Premium Waterproof Jacket, Navy, size XL (2 pack)",
    "Couch without armrests - not foldable, 120 cm, sugar-free",
    "sofa",
    "don't",
    "沙发 红色 三人座",
    "沙发",
    "😀",
    "Kettle 😀 1.7L çay",
    "  beautiful   shoes  ",
    "BEAUTIFUL SHOES FOR KIDS",
    "!!!",
]


@pytest.fixture(scope="module")
def encoder_folder() -> Path:
    return find_encoder(EncoderConfig())


@pytest.fixture(params=OPERATIONS, scope="module")
def operation(request: pytest.FixtureRequest, encoder_folder: Path) -> Operation:
    return OPERATIONS[request.param](encoder_folder)


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


def test_a_text_does_not_depend_on_those_after_it(operation: Operation) -> None:
    alone = operation(TEXTS[:1], 1.0, np.random.default_rng(0))

    assert len(alone) == 1
    assert alone[0] != TEXTS[0]


def protected_words(text: str) -> Counter[str]:
    return Counter(word for word in text.split() if is_protected(word))


def check_contract(operation: Operation, texts: list[str], rate: float, seed: int) -> None:
    varied = operation(texts, rate, np.random.default_rng(seed))

    assert len(varied) == len(texts)
    for text, new in zip(texts, varied, strict=True):
        assert isinstance(new, str)
        assert new.strip() or not text.strip()
        assert protected_words(new) == protected_words(text)
        assert len(new.split()) <= len(text.split())


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.99, 1.0])
def test_protected_words_stay_and_no_text_becomes_blank(operation: Operation, rate: float) -> None:
    for seed in range(20):
        check_contract(operation, TEXTS, rate, seed)


@settings(max_examples=60)
@given(
    texts=st.lists(
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
            st.lists(
                st.sampled_from(
                    [
                        "sofa",
                        "Couch",
                        "red",
                        "Navy",
                        "XL",
                        "12",
                        "12cm",
                        "not",
                        "free",
                        "SHOES",
                        "kids",
                        "Stop",
                        "USB-C",
                        "沙发",
                        "😀",
                        "don't",
                        "x",
                    ]
                ),
                min_size=1,
                max_size=12,
            ).map(" ".join),
        ).filter(str.strip),
        max_size=8,
    ),
    rate=st.floats(0, 1),
    seed=st.integers(0, 9),
)
@pytest.mark.parametrize("name", OPERATIONS)
def test_any_text_keeps_the_contract(
    encoder_folder: Path, name: str, texts: list[str], rate: float, seed: int
) -> None:
    check_contract(OPERATIONS[name](encoder_folder), texts, rate, seed)


def test_the_rate_is_the_share_of_changed_words(operation: Operation) -> None:
    texts = ["jacket shoes phone kids video"] * 2_000

    varied = operation(texts, 0.2, np.random.default_rng(0))

    originals = set(texts[0].split())
    kept = sum(word in originals for text in varied for word in re.split(r"\s+", text))
    assert 1 - kept / 10_000 == pytest.approx(0.2, abs=0.02)
