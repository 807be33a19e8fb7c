"""Leave words out (Wei and Zou 2019, "random deletion")."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainables.augmentation.words import is_protected

if TYPE_CHECKING:
    from trainables.augmentation import Operation

_is_protected = lru_cache(maxsize=100_000)(is_protected)


def build_word_dropout(encoder_folder: Path) -> "Operation":
    """Return the operation; it doesn't depend on the encoder."""
    del encoder_folder
    return drop_words


def drop_words(texts: Sequence[str], rate: float, rng: np.random.Generator) -> list[str]:
    """Leave out each unprotected word with probability ``rate``; see :class:`Operation`.

    Words are what white space separates. At least one word of each text stays.
    """
    words = [text.split() for text in texts]
    draws = rng.random(sum(map(len, words)))
    ends = np.cumsum([len(row) for row in words])
    # Most rows keep every word at a low rate; only the others are looked at word by word.
    touched = np.unique(np.searchsorted(ends, np.flatnonzero(draws < rate), side="right"))
    result = list(texts)
    for row in touched.tolist():
        chances = draws[ends[row] - len(words[row]) : ends[row]].tolist()
        kept = [
            word
            for word, chance in zip(words[row], chances, strict=True)
            if chance >= rate or _is_protected(word)
        ]
        if not kept:
            kept = [words[row][int(np.argmax(chances))]]
        if len(kept) < len(words[row]):
            result[row] = " ".join(kept)
    return result
