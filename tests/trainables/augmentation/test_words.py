"""Words that say what a product is stay protected, in any dress."""

import pytest

from trainables.augmentation.words import is_protected


@pytest.mark.parametrize(
    "word",
    [
        "red",
        "Navy,",
        "(XL)",
        "12",
        "128GB",
        "1.7L",
        "no",
        "not.",
        "don't",
        "don\N{RIGHT SINGLE QUOTATION MARK}t",
        "cm",
        "WITHOUT",
        "navy-blue",
        "sugar-free",
        "red/green",
        "第3代",
    ],
)
def test_colours_sizes_units_numbers_and_negations_are_protected(word: str) -> None:
    assert is_protected(word)


@pytest.mark.parametrize(
    "word", ["sofa", "reddish", "sizeable", "沙发", "😀", "!!!", "", "t-shirt"]
)
def test_other_words_are_not(word: str) -> None:
    assert not is_protected(word)
