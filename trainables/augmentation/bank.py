"""The training rows' variant of each epoch, tokenized."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spaces.trial_config import TrialConfig
from trainables.augmentation import OPERATIONS
from trainables.data.prepared import PreparedData
from trainables.data.token_rows import TokenRows, concatenate, tokenize

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VARIED_SHARE = 0.5
"""Share of the rows that an epoch varies. The others stay as they are, so that a model also sees
what it will predict on, and only half of the rows are tokenized again."""


STREAM = 1
"""Tells the bank's random numbers from the others of a trial and an epoch."""


class AugmentationBank:
    """Gives a trial the tokens of its training rows, varied anew in each epoch."""

    def __init__(
        self,
        prepared: PreparedData,
        trial: TrialConfig,
        tokenizer: "Tokenizer",
        encoder_folder: Path,
    ) -> None:
        """Load what the trial's operation needs.

        Args:
            prepared: The data.
            trial: Names the operation, its rate and the seed.
            tokenizer: The one that the data was prepared with.
            encoder_folder: The encoder's files.
        """
        self._original = prepared.rows("train").tokens
        self._trial = trial
        self._tokenizer = tokenizer
        if trial.augmentation != "none":
            self._operation = OPERATIONS[trial.augmentation](encoder_folder)
            self._texts = prepared.rows("train").texts()

    def tokens(self, epoch: int) -> TokenRows:
        """Return all training rows in their order, some of them varied.

        The same configuration, data and epoch give the same tokens, on every worker.

        Args:
            epoch: Number of the epoch.
        """
        trial = self._trial
        chosen, rng = self._choose(epoch)
        if not chosen.any():
            return self._original
        num_rows, varied = len(self._original), np.flatnonzero(chosen)
        columns = zip(*(self._texts[row] for row in varied), strict=True)
        texts = [self._operation(column, trial.augmentation_rate, rng) for column in columns]
        places = np.arange(num_rows)
        places[varied] = num_rows + np.arange(len(varied))
        return concatenate([self._original, tokenize(texts, self._tokenizer)]).take(places)

    def varied(self, epoch: int) -> np.ndarray:
        """Return which rows :meth:`tokens` varies in an epoch, bool (n,).

        Args:
            epoch: Number of the epoch.
        """
        return self._choose(epoch)[0]

    def _choose(self, epoch: int) -> tuple[np.ndarray, np.random.Generator]:
        """Draw the rows to vary, and return what draws their variants."""
        # A stream of its own: the order of the rows is drawn from (seed, epoch).
        rng = np.random.default_rng([self._trial.seed, epoch, STREAM])
        if self._trial.augmentation == "none" or self._trial.augmentation_rate == 0:
            return np.zeros(len(self._original), dtype=bool), rng
        return rng.random(len(self._original)) < VARIED_SHARE, rng
