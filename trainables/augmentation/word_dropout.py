"""Leave words out (Wei and Zou 2019, "random deletion")."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainables.augmentation.config import AugmentationConfig
from trainables.augmentation.protection import Protection

if TYPE_CHECKING:
    from trainables.augmentation import Operation


def build_word_dropout(encoder_folder: Path, config: AugmentationConfig) -> "Operation":
    """Return the operation; it doesn't depend on the encoder."""
    del encoder_folder
    return WordDropout(Protection.of(config.protected_words))


@dataclass(frozen=True, slots=True)
class WordDropout:
    """Leaves words out; see :class:`Operation`. Words are what white space separates."""

    protection: Protection
    """What stays."""

    def __call__(self, texts: Sequence[str], rate: float, rng: np.random.Generator) -> list[str]:
        """Leave out each free word with probability ``rate``; one at least stays."""
        words = [text.split() for text in texts]
        draws = rng.random(sum(map(len, words)))
        ends = np.cumsum([len(row) for row in words])
        # Most rows keep every word at a low rate; only the others are looked at word by word.
        touched = np.unique(np.searchsorted(ends, np.flatnonzero(draws < rate), side="right"))
        result = list(texts)
        for row in touched.tolist():
            chances = draws[ends[row] - len(words[row]) : ends[row]].tolist()
            fixed = self.protection.fixed(texts[row])
            kept = [
                word
                for word, chance, stays in zip(words[row], chances, fixed, strict=True)
                if stays or chance >= rate
            ]
            if not kept:
                kept = [words[row][int(np.argmax(chances))]]
            if len(kept) < len(words[row]):
                result[row] = " ".join(kept)
        return result
