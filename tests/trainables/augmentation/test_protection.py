"""Protected words are found in any dress, also a study's own."""

import pytest

from trainables.augmentation.config import AugmentationConfig
from trainables.augmentation.protection import Protection

PROTECTION = Protection.of(("Harbor", "Acme Tools", "华为"))


@pytest.mark.parametrize(
    "word", ["Harbor", "harbor,", "HARBOR'S", "Harbor-Edition", "acme", "tools", "华为手机", "red"]
)
def test_names_of_a_study_are_covered(word: str) -> None:
    assert PROTECTION.covers(word)
    assert word == "red" or not Protection().covers(word)


@pytest.mark.parametrize("word", ["harbors", "手机", "sofa"])
def test_other_words_are_not(word: str) -> None:
    assert not PROTECTION.covers(word)


def test_what_follows_a_negation_and_what_is_in_a_tag_keeps_its_place() -> None:
    words = "sofa without armrests, sugar free <a href='x'>kids</a> not"

    fixed = PROTECTION.fixed(words)

    names = [word for word, stays in zip(words.split(), fixed, strict=True) if stays]
    assert names == ["without", "armrests,", "free", "<a", "href='x'>kids</a>", "not"]


@pytest.mark.parametrize(
    ("text", "part", "free"),
    [
        ("a sofa", "sofa", True),
        ("a (sofa)!", "sofa", True),
        ("a sofa/red", "sofa", False),
        ("sofa12", "sofa", False),
        ("<sofa>", "sofa", False),
        ("<b>sofa</b>", "sofa", True),
    ],
)
def test_a_part_is_free_outside_of_tags_and_protected_words(
    text: str, part: str, free: bool
) -> None:
    start = text.index(part)

    assert PROTECTION.is_free(text, start, start + len(part)) == free


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("laptop 16GB red", "RED, 16 gigabytes laptop"),
        ('5" phone', "phone 5-inch"),
        ("Harbor sofa", "couch by harbor"),
        ("红色华为手机", "华为 红色 手机"),
        ("1 kg", "1 kilogram"),
    ],
)
def test_counts_agree_where_the_same_is_said(one: str, other: str) -> None:
    assert PROTECTION.count(one) == PROTECTION.count(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("16GB", "16MB"), ("a red one", "a one"), ("红色", "蓝色"), ("华为", "小米")],
)
def test_counts_differ_where_something_else_is_said(one: str, other: str) -> None:
    assert PROTECTION.count(one) != PROTECTION.count(other)


def test_a_blank_entry_is_refused() -> None:
    with pytest.raises(ValueError, match="leave out what is blank"):
        AugmentationConfig(protected_words=("Harbor", " "))
