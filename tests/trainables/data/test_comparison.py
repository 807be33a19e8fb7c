"""What two columns of a row share."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.comparison import MAX_CHARACTERS, compare_numbers, compare_texts

FORMAT_PAGE = Path(__file__).parents[3] / "docs" / "bundles.md"

texts = st.text(max_size=20)
numbers = st.floats(allow_infinity=False, allow_nan=True)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # Case and punctuation don't count, and ß is ss.
        ("DCR-TRV280", "dcrtrv280", [1, 1, 1, 0]),
        ("Straße 3", "STRASSE 3", [1, 1, 1, 0]),
        # All words of the shorter one; 2 of the pieces r28, 280, of 2 and 15.
        ("r280", "sony r280 camcorder", [0, 1, 2 * 2 / (2 + 15), 0]),
        # One of two words; no piece of three letters.
        ("red a", "a blue", [0, 0.5, 0, 0]),
        ("ab", "ab", [1, 1, 1, 0]),
        ("", "anything", [0, 0, 0, 1]),
        ("- !", "anything", [0, 0, 0, 1]),
        ("红色运动鞋", "红色运动衫", [0, 0, 2 * 2 / 6, 0]),
        # Full width, decomposed accents, fractions.
        ("\uff21\uff43me", "acme", [1, 1, 1, 0]),
        ("cafe\u0301", "café", [1, 1, 1, 0]),
        ("½ l", "1/2 L", [1, 1, 1, 0]),
        # Decimals and vowel signs tell apart; a full stop doesn't.
        ("5.00", "500", [0, 0, 0, 0]),
        ("काला", "कोली", [0, 0, 0, 0]),
        ("v1.", "v1", [1, 1, 1, 0]),
    ],
)
def test_texts_share_letters_words_and_pieces(
    first: str, second: str, expected: list[float]
) -> None:
    assert compare_texts([first], [second])[0].tolist() == pytest.approx(expected)


def test_the_format_page_gives_what_is_computed() -> None:
    lines = FORMAT_PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index("| first | second | numbers |") + 2
    rows = [line.strip("| ").split(" | ") for line in lines[start:] if line.startswith("|")]
    examples = [row for row in rows if len(row) == 3 and row[2].count(",") == 3]

    assert len(examples) >= 7
    for first, second, told in examples:
        found = compare_texts([first.strip("`")], [second.strip("`")])[0]
        shares = [each.split("/") for each in told.split(", ")]
        expected = [
            float(each[0]) / float(each[-1]) if len(each) > 1 else float(each[0]) for each in shares
        ]
        assert found.tolist() == pytest.approx(expected)


def test_only_the_beginning_of_a_long_text_is_compared() -> None:
    beginning = "ab " * (MAX_CHARACTERS // 3 + 1)

    found = compare_texts([beginning + "x" * 10**6], [beginning + "y" * 10**6])

    assert found[0].tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (10.0, 12.5, [0.2, 0.2, 0]),
        (12.5, 10.0, [-0.2, 0.2, 0]),
        (0.0, 0.0, [0, 0, 0]),
        (-1.0, 1.0, [2, 2, 0]),
        (math.nan, 1.0, [0, 0, 1]),
        (1.0, math.nan, [0, 0, 1]),
    ],
)
def test_numbers_are_compared_by_their_distance(
    first: float, second: float, expected: list[float]
) -> None:
    found = compare_numbers(np.array([first]), np.array([second]))

    assert found[0].tolist() == pytest.approx(expected)


@given(pairs=st.lists(st.tuples(texts, texts), max_size=8))
def test_texts_are_compared_symmetrically_and_row_by_row(pairs: list[tuple[str, str]]) -> None:
    first, second = [list(column) for column in zip(*pairs, strict=True)] or [[], []]

    found = compare_texts(first, second)

    assert found.shape == (len(pairs), 4)
    assert np.array_equal(found, compare_texts(second, first))
    assert ((found >= 0) & (found <= 1)).all()
    for (one, other), row in zip(pairs, found, strict=True):
        assert row.tolist() == compare_texts([one], [other])[0].tolist()
        # Equal letters have equal pieces, but may be other words: "a b" and "ab".
        assert row[0] == 0 or row[2] == 1


@given(first=st.lists(numbers, min_size=1, max_size=8), seed=st.integers(0, 9))
def test_compared_numbers_are_finite_and_change_sign_with_their_order(
    first: list[float], seed: int
) -> None:
    one = np.array(first)
    other = np.random.default_rng(seed).permutation(one)

    found, reversed_ = compare_numbers(one, other), compare_numbers(other, one)

    assert np.isfinite(found).all()
    assert (np.abs(found) <= 2).all()
    assert np.array_equal(found, reversed_ * [-1, 1, 1])
