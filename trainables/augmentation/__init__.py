"""Ways to vary a training text; each is one file, registered here by its name in a study file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from trainables.augmentation.synonym import build_synonym
from trainables.augmentation.word_dropout import build_word_dropout


class Operation(Protocol):
    """Varies texts so that what they are about, and any number or colour in them, stays."""

    def __call__(self, texts: Sequence[str], rate: float, rng: np.random.Generator) -> list[str]:
        """Vary some texts.

        Args:
            texts: The originals; never empty.
            rate: Share of the words that may change which do, in [0, 1]; 0 changes nothing.
            rng: Decides which; the same state gives the same result.

        Returns:
            One text for each original, never blank.
        """
        ...


OPERATIONS: dict[str, Callable[[Path], Operation]] = {
    "synonym": build_synonym,
    "word_dropout": build_word_dropout,
}
"""Builds each operation from the folder of a study's encoder; ``none`` needs no operation."""
