"""Ways to vary a training text; each is one file, registered here by its name in a study file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from trainables.augmentation.back_translation import build_back_translation
from trainables.augmentation.config import AugmentationConfig
from trainables.augmentation.description import build_description
from trainables.augmentation.masked_word import build_masked_word
from trainables.augmentation.synonym import build_synonym
from trainables.augmentation.word_dropout import build_word_dropout
from trainables.augmentation.word_insertion import build_word_insertion
from trainables.augmentation.word_swap import build_word_swap


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


OPERATIONS: dict[str, Callable[[Path, AugmentationConfig], Operation]] = {
    "synonym": build_synonym,
    "word_dropout": build_word_dropout,
    "word_swap": build_word_swap,
    "word_insertion": build_word_insertion,
    "description": build_description,
    "masked_word": build_masked_word,
    "back_translation": build_back_translation,
}
"""Builds each operation from the folder of a study's encoder and its section ``augmentation``;
``none`` needs no operation."""
