"""Put a near neighbour of one of its words into a text (Wei and Zou 2019, "random insertion")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from trainables.augmentation.config import AugmentationConfig
from trainables.augmentation.protection import Protection
from trainables.augmentation.synonym import build_synonym, words_with_neighbours


@lru_cache(maxsize=4)
def build_word_insertion(encoder_folder: Path, config: AugmentationConfig) -> "WordInsertion":
    """Return the operation; it shares its table of neighbours with ``synonym``."""
    synonym = build_synonym(encoder_folder, config)
    return WordInsertion(synonym.neighbours, synonym.protection)


@dataclass(frozen=True, slots=True)
class WordInsertion:
    """Inserts neighbours; see :class:`Operation`."""

    neighbours: Mapping[str, tuple[str, ...]]
    """For each word, others that may stand beside it, nearest first."""
    protection: Protection = field(default_factory=Protection)
    """What isn't torn apart."""

    def __call__(self, texts: Sequence[str], rate: float, rng: np.random.Generator) -> list[str]:
        """Insert a neighbour of each word that has any with probability ``rate``, anywhere."""
        found = [words_with_neighbours(text, self.neighbours, self.protection) for text in texts]
        draws = rng.random((sum(map(len, found)), 3))
        ends = np.cumsum([len(row) for row in found])
        hits = np.flatnonzero(draws[:, 0] < rate)
        rows, starts = np.unique(np.searchsorted(ends, hits, side="right"), return_index=True)
        result = list(texts)
        for row, own in zip(rows.tolist(), np.split(hits, starts[1:]), strict=False):
            words = texts[row].split()
            places = self._places(texts[row])
            first = int(ends[row]) - len(found[row])
            inserted: dict[int, list[str]] = {}
            for hit in own.tolist():
                options = self.neighbours[found[row][hit - first][0].lower()]
                place = places[int(draws[hit, 2] * len(places))]
                inserted.setdefault(place, []).append(options[int(draws[hit, 1] * len(options))])
            for place in sorted(inserted, reverse=True):
                words[place:place] = inserted[place]
            result[row] = " ".join(words)
        return result

    def _places(self, text: str) -> list[int]:
        """List the numbers of the words before which another may stand: not after a fixed one."""
        fixed = self.protection.fixed(text)
        # Between "12" and "cm", or "not" and "foldable", it would change what is said.
        inside = [p for p, (left, right) in enumerate(pairwise(fixed), 1) if not (left and right)]
        return [0, *inside, len(fixed)]
