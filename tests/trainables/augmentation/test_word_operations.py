"""Swap, insertion and the description's changes do what their names say."""

from collections import Counter

import numpy as np
import pytest

from trainables.augmentation.description import DescriptionTransforms
from trainables.augmentation.protection import Protection
from trainables.augmentation.synonym import SynonymReplacement
from trainables.augmentation.word_dropout import WordDropout
from trainables.augmentation.word_insertion import WordInsertion
from trainables.augmentation.word_swap import WordSwap

NEIGHBOURS = {"sofa": ("couch",), "kids": ("children",)}


def test_a_swap_keeps_all_words_and_the_places_of_fixed_ones() -> None:
    text = "a sofa without armrests 12 cm for kids"
    swap = WordSwap(Protection())

    for seed in range(50):
        (new,) = swap([text], 0.8, np.random.default_rng(seed))
        assert Counter(new.split()) == Counter(text.split())
        assert new.split()[2:6] == ["without", "armrests", "12", "cm"]


def test_a_word_that_follows_a_negation_is_not_dropped() -> None:
    (new,) = WordDropout(Protection())(["sofa without armrests"], 1.0, np.random.default_rng(0))

    assert new == "without armrests"


def test_neighbours_are_inserted_where_they_tear_nothing_apart() -> None:
    insert = WordInsertion(NEIGHBOURS)
    seen = set()

    for seed in range(60):
        (new,) = insert(["sofa not foldable 12 cm"], 1.0, np.random.default_rng(seed))
        seen.add(new)

    assert seen == {
        "couch sofa not foldable 12 cm",
        "sofa couch not foldable 12 cm",
        "sofa not foldable 12 cm couch",
    }


def test_a_word_beside_a_protected_one_is_not_replaced_without_space() -> None:
    replace = SynonymReplacement(NEIGHBOURS)

    varied = replace(["sofa/red sofa2 <b>sofa</b> <sofa>"], 1.0, np.random.default_rng(0))

    assert varied == ["sofa/red sofa2 <b>couch</b> <sofa>"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Red Sofa", {"Red Sofa", "Red sofa", "Red SOFA", "Red"}),
        ("16GB", {"16GB", "16gb", "16 gb", "16 gigabytes"}),
        ("red; xl", {"red; xl", "xl; red"}),
    ],
)
def test_a_description_is_written_in_other_ways(text: str, expected: set[str]) -> None:
    transform = DescriptionTransforms(Protection())

    found = {transform([text], 1.0, np.random.default_rng(seed))[0] for seed in range(60)}

    assert found <= expected | {"RED"}
    assert len(found) == len(expected)


def test_only_a_free_end_is_cut_off() -> None:
    transform = DescriptionTransforms(Protection())
    text = "best soft sofa without armrests for kids"

    found = {
        len(transform([text], 0.5, np.random.default_rng(seed))[0].split()) for seed in range(200)
    }

    assert found == {5, 6, 7}
