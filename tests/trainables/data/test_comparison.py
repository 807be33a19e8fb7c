"""What two columns of a row share."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.comparison import compare_numbers, compare_texts

texts = st.text(max_size=20)
numbers = st.floats(allow_infinity=False, allow_nan=True)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # Case and punctuation don't count, and ß is ss.
        ("DCR-TRV280", "dcrtrv280", [1, 1, 1, 0]),
        ("Straße 3", "STRASSE 3", [1, 1, 1, 0]),
        # All words of the shorter one; 2 of the pieces r28, 280, of 2 and 9.
        ("r280", "sony r280 camcorder", [0, 1, 2 * 2 / (2 + 15), 0]),
        # One of two words; no piece of three letters.
        ("red a", "a blue", [0, 0.5, 0, 0]),
        ("ab", "ab", [1, 1, 1, 0]),
        ("", "anything", [0, 0, 0, 1]),
        ("- !", "anything", [0, 0, 0, 1]),
        ("红色运动鞋", "红色运动衫", [0, 0, 2 * 2 / 6, 0]),
    ],
)
def test_texts_share_letters_words_and_pieces(
    first: str, second: str, expected: list[float]
) -> None:
    assert compare_texts([first], [second])[0].tolist() == pytest.approx(expected)


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
