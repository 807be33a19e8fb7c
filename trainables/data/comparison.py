"""How alike two columns of a row are, as numbers that a model sees beside the columns themselves.

Whether a query names the product's brand, or two offers have one model number, is written in two
places of a row, and a model that reads words has to learn to compare them letter by letter.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

ComparisonKind = Literal["text", "number"]
"""What is compared: two texts or categories, or two numbers."""

WIDTHS: dict[ComparisonKind, int] = {"text": 4, "number": 3}
"""Numbers that a comparison gives."""
MAX_CHARACTERS = 500
"""Characters of a text that are compared, the first ones: a title or a model number has fewer, and
a request with a megabyte of text must not cost more than one with a page."""
NOTHING = (0.0, 0.0, 0.0, 1.0)
"""What a comparison of texts gives where one is missing."""
PIECE = 3
"""Characters of the pieces that texts are compared by."""
REMEMBERED = 1_000
"""Texts of a call whose words and pieces are kept, some ten kilobytes each: rows of one query
follow each other."""
LARGEST = 1e100
"""Numbers beyond it count as it, either way, so that their difference is finite."""

FRACTION_SLASH = "\u2044"
"""What a compatibility decomposition writes in ½, between 1 and 2."""
SEPARATORS = re.compile(r"(?<![0-9])[.,/]|[.,/](?![0-9])")
"""Signs that stand between digits nowhere; elsewhere they tell 2.5 from 25."""


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

    def __str__(self) -> str:
        return f"{self.first} / {self.second}"


@dataclass(frozen=True, slots=True)
class _Profile:
    """What of a text is compared."""

    letters: str
    """Its words without what divides them."""
    words: frozenset[str]
    """Its words: ``DCR-TRV280`` and ``dcrtrv280`` are one."""
    pieces: frozenset[str]
    """All runs of :data:`PIECE` of the letters; of shorter texts the letters."""


class _Kept(dict[int, str]):
    """Letters, marks, digits and white space as they are, and nothing for what else there is."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        is_kept = unicodedata.category(character)[0] in "LMN" or character in ".,/"
        is_kept = is_kept or character.isspace()
        self[code] = character if is_kept else ""
        return self[code]


_KEPT = _Kept()


def _profile(text: str | None) -> _Profile:
    # Full-width letters, ligatures and decomposed accents are the same as the usual ones; after
    # folding, once more, for it may decompose.
    plain = unicodedata.normalize("NFKC", (text or "")[:MAX_CHARACTERS])
    plain = unicodedata.normalize("NFKC", plain.casefold()).replace(FRACTION_SLASH, "/")
    listed = SEPARATORS.sub("", plain).translate(_KEPT).split()
    letters = "".join(listed)
    pieces = (letters[start : start + PIECE] for start in range(max(len(letters) - PIECE + 1, 1)))
    return _Profile(letters, frozenset(listed), frozenset(pieces))


def compare_texts(first: Sequence[str | None], second: Sequence[str | None]) -> np.ndarray:
    """Compare n texts with n others, row by row; what they share doesn't depend on their order.

    None, a missing text, is an empty one.

    Of each the first :data:`MAX_CHARACTERS` characters count, in Unicode's compatibility form NFKC,
    without regard to case: letters, marks and digits, and ``.``, ``,`` or ``/`` between two digits.

    Returns:
        float64 (n, 4): whether all of that is equal; the share of the words of the one with fewer
        that the other has too (the overlap coefficient); twice the shared pieces of three
        characters over the pieces of both (Dice's coefficient); and whether nothing is left of one,
        then the others are 0.
    """
    profile = lru_cache(maxsize=REMEMBERED)(_profile)
    rows = np.zeros((len(first), WIDTHS["text"]))
    for row, one, other in zip(rows, map(profile, first), map(profile, second), strict=True):
        if not one.letters or not other.letters:
            row[:] = NOTHING
            continue
        row[0] = one.letters == other.letters
        row[1] = len(one.words & other.words) / min(len(one.words), len(other.words))
        row[2] = 2 * len(one.pieces & other.pieces) / (len(one.pieces) + len(other.pieces))
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
