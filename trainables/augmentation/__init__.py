"""Ways to vary a training row; each is one file, registered here by its name in a study file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from trainables.augmentation.back_translation import build_back_translation
from trainables.augmentation.category_dropout import build_category_dropout
from trainables.augmentation.category_swap import build_category_swap
from trainables.augmentation.config import AugmentationConfig
from trainables.augmentation.description import build_description
from trainables.augmentation.masked_word import build_masked_word
from trainables.augmentation.record import RecordBuilder
from trainables.augmentation.synonym import build_synonym
from trainables.augmentation.timestamp_jitter import build_timestamp_jitter
from trainables.augmentation.word_dropout import build_word_dropout
from trainables.augmentation.word_insertion import build_word_insertion
from trainables.augmentation.word_swap import build_word_swap
from trainables.augmentation.wordnet import build_wordnet


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
    "wordnet": build_wordnet,
    "word_dropout": build_word_dropout,
    "word_swap": build_word_swap,
    "word_insertion": build_word_insertion,
    "description": build_description,
    "masked_word": build_masked_word,
    "back_translation": build_back_translation,
}
"""Builds each operation from the folder of a study's encoder and its section ``augmentation``;
``none`` needs no operation."""

RECORD_OPERATIONS: dict[str, RecordBuilder] = {
    "category_swap": build_category_swap,
    "category_dropout": build_category_dropout,
    "timestamp_jitter": build_timestamp_jitter,
}
"""Those that vary fields, in the order in which they do, by the trial's setting that says how
much."""
