"""How alike two columns of a row are, as numbers that a model sees beside the columns themselves.

Whether a query names the product's brand, or two offers have one model number, is written in two
places of a row, and a model that reads words has to learn to compare them letter by letter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

ComparisonKind = Literal["text", "number"]
"""What is compared: two texts or categories, or two numbers."""

WIDTHS: dict[ComparisonKind, int] = {"text": 4, "number": 3}
"""Numbers that a comparison gives."""
GRAM = 3
"""Letters of the pieces that texts are compared by."""
REMEMBERED = 20_000
"""Texts whose words and pieces are kept: a log repeats its queries and titles."""
LARGEST = 1e100
"""Numbers beyond it count as it, either way, so that their difference is finite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two columns that are compared. Nothing of it is fitted."""

    first: str
    """A column."""
    second: str
    """Another one."""
    kind: ComparisonKind
    """What they hold."""

    @property
    def names(self) -> tuple[str, str]:
        """The columns."""
        return self.first, self.second

    @property
    def width(self) -> int:
        """Numbers that it gives."""
        return WIDTHS[self.kind]


@dataclass(frozen=True, slots=True)
class _Profile:
    """What of a text is compared."""

    letters: str
    """Its letters and digits, without regard to case."""
    words: frozenset[str]
    """Its words, likewise: ``DCR-TRV280`` and ``dcrtrv280`` are one."""
    grams: frozenset[str]
    """All runs of :data:`GRAM` of the letters; of shorter texts the letters."""


@lru_cache(maxsize=REMEMBERED)
def _profile(text: str) -> _Profile:
    words = ["".join(filter(str.isalnum, word)) for word in text.casefold().split()]
    letters = "".join(words)
    grams = (letters[start : start + GRAM] for start in range(max(len(letters) - GRAM + 1, 1)))
    return _Profile(letters, frozenset(filter(None, words)), frozenset(grams))


def compare_texts(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
    """Compare n texts with n others, row by row; what they share doesn't depend on their order.

    Returns:
        float64 (n, 4): whether all letters and digits are equal; the share of the words of the one
        with fewer that the other has too (the overlap coefficient); twice the shared pieces of
        three letters over the pieces of both (Dice's coefficient); and whether one has no letter
        or digit, then the others are 0.
    """
    rows = np.zeros((len(first), WIDTHS["text"]))
    for row, one, other in zip(rows, map(_profile, first), map(_profile, second), strict=True):
        if not one.letters or not other.letters:
            row[3] = 1
            continue
        row[0] = one.letters == other.letters
        row[1] = len(one.words & other.words) / min(len(one.words), len(other.words))
        row[2] = 2 * len(one.grams & other.grams) / (len(one.grams) + len(other.grams))
    return rows


def compare_numbers(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compare numbers, float64 (n,), with others; NaN is missing.

    Returns:
        float64 (n, 3): by how much the second exceeds the first, as a share of the larger
        magnitude, from -2 to 2, and the same without its sign, 0 for equal ones; and whether one
        is missing, then the others are 0.
    """
    missing = np.isnan(first) | np.isnan(second)
    one, other = (
        np.clip(np.where(missing, 0.0, numbers), -LARGEST, LARGEST) for numbers in (first, second)
    )
    largest = np.maximum(np.abs(one), np.abs(other))
    change = (other - one) / np.where(largest > 0, largest, 1.0)
    return np.stack([change, np.abs(change), missing], axis=1)


COMPARE: dict[ComparisonKind, Callable[..., np.ndarray]] = {
    "text": compare_texts,
    "number": compare_numbers,
}
"""Gives what a comparison of each kind does, (n, width), of the values of two columns."""
