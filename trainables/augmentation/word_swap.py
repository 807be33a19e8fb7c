"""Let words change places (Wei and Zou 2019, "random swap")."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainables.augmentation.config import AugmentationConfig
from trainables.augmentation.protection import Protection

if TYPE_CHECKING:
    from trainables.augmentation import Operation


def build_word_swap(encoder_folder: Path, config: AugmentationConfig) -> "Operation":
    """Return the operation; it doesn't depend on the encoder."""
    del encoder_folder
    return WordSwap(Protection.of(config.protected_words))


@dataclass(frozen=True, slots=True)
class WordSwap:
    """Swaps words; see :class:`Operation`. Words are what white space separates."""

    protection: Protection
    """What stays in its place."""

    def __call__(self, texts: Sequence[str], rate: float, rng: np.random.Generator) -> list[str]:
        """Swap each free word, with half of ``rate``, with another: about ``rate`` of them move."""
        words = [text.split() for text in texts]
        draws = rng.random((sum(map(len, words)), 2))
        ends = np.cumsum([len(row) for row in words])
        hits = np.flatnonzero(draws[:, 0] < rate / 2)
        result = list(texts)
        rows, starts = np.unique(np.searchsorted(ends, hits, side="right"), return_index=True)
        for row, own in zip(rows.tolist(), np.split(hits, starts[1:]), strict=False):
            free = [p for p, fixed in enumerate(self.protection.fixed(texts[row])) if not fixed]
            first = int(ends[row]) - len(words[row])
            moved = list(words[row])
            for hit in own.tolist():
                place = hit - first
                if place in free and len(free) > 1:
                    others = [other for other in free if other != place]
                    other = others[int(draws[hit, 1] * len(others))]
                    moved[place], moved[other] = moved[other], moved[place]
            if moved != words[row]:
                result[row] = " ".join(moved)
        return result
