"""The training rows' variants of each epoch, tokenized once for all trials that ask for them."""

import functools
import hashlib
import json
from pathlib import Path

import numpy as np

from spaces.trial_config import TrialConfig
from trainables.array_cache import VARIANT_PREFIX, ArrayCache
from trainables.augmentation.config import DEFAULTS, AugmentationConfig
from trainables.augmentation.quality import vary_rows
from trainables.augmentation.variants import Variants, are_variants
from trainables.data.prepared import PreparedData
from trainables.data.token_rows import tokenize
from trainables.encoder import load_tokenizer

FORMAT_VERSION = 3
"""Rises when the same configuration gives other variants, or their file another meaning; files of
other versions are then no longer found."""

STREAM = 1
"""Tells the bank's random numbers from the others of a trial and an epoch."""


class AugmentationBank:
    """Gives a trial the variants of its training rows, other ones in each epoch."""

    def __init__(
        self,
        prepared: PreparedData,
        trial: TrialConfig,
        encoder_folder: Path,
        *,
        max_tokens: int,
        config: AugmentationConfig = DEFAULTS,
    ) -> None:
        """Take what variants are made of; it is loaded when some have to be made.

        Args:
            prepared: The data.
            trial: Names the operation, its rate and the seed.
            encoder_folder: The encoder's files.
            max_tokens: Longest input, as the data was prepared.
            config: The study's section ``augmentation``.
        """
        self._prepared = prepared
        self._trial = trial
        self._max_tokens = max_tokens
        self._config = config
        self._encoder_folder = encoder_folder

    def variants(self, epoch: int, files: ArrayCache | None = None) -> Variants | None:
        """Return an epoch's variants.

        The same operation, rate, share, seed, data and epoch give the same ones, on every worker,
        whether they are read or made.

        Args:
            epoch: Number of the epoch.
            files: Where variants are kept; those that are there are read, others are made and left
                there for whoever wants the same. None: they are made in memory.

        Returns:
            The variants of the rows that were chosen and came out well; None if there are none.
        """
        variants = self._variants(epoch, files)
        return variants if variants is not None and len(variants.rows) else None

    def _variants(self, epoch: int, files: ArrayCache | None) -> Variants | None:
        chosen, rng = self._choose(epoch)
        rows = np.flatnonzero(chosen)
        if not len(rows):
            return None
        # Without room for a file, what was made for it is what the trial uses.
        make = functools.cache(lambda: self._make(rows, rng))
        if files is not None:
            arrays = files.open(
                self._file_name(epoch),
                lambda: make().to_arrays(),
                fits=lambda found: are_variants(found, rows),
            )
            if arrays is not None:
                return Variants.from_arrays(arrays)
        return make()

    def _choose(self, epoch: int) -> tuple[np.ndarray, np.random.Generator]:
        """Draw the rows to vary, bool (n,), and return what draws their variants."""
        # A stream of its own: the order of the rows is drawn from (seed, epoch).
        rng = np.random.default_rng([self._trial.seed, epoch, STREAM])
        return rng.random(self._prepared.num_rows[0]) < self._trial.varied_share(epoch), rng

    def _make(self, rows: np.ndarray, rng: np.random.Generator) -> Variants:
        varied = vary_rows(
            [column.texts(rows) for column in self._prepared.rows("train").text_columns()],
            self._trial.augmentation,
            self._trial.augmentation_rate,
            rng,
            encoder_folder=self._encoder_folder,
            max_tokens=self._max_tokens,
            config=self._config,
        )
        kept = varied.kept
        texts = [[column[row] for row in kept.tolist()] for column in varied.columns]
        tokenizer = load_tokenizer(self._encoder_folder, max_tokens=self._max_tokens)
        layout = self._prepared.layout
        return Variants.make(rows[kept], tokenize(texts, tokenizer, layout))

    def _file_name(self, epoch: int) -> str:
        trial = self._trial
        identity = [
            FORMAT_VERSION,
            trial.augmentation,
            float(trial.augmentation_rate),
            float(trial.varied_share(epoch)),
            trial.seed,
            epoch,
            self._config.identity(trial.augmentation),
        ]
        key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
        return f"{VARIANT_PREFIX}{trial.augmentation}-{key}.npy"
