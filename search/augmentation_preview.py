"""How an augmentation would vary a study's training texts, shown before any trial."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from search.study_config import StudyConfig
from spaces.trial_config import TrialConfig
from trainables.augmentation.quality import VariedRows, vary_rows
from trainables.data.table import ClickTable
from trainables.data.text_column import TextColumn
from trainables.encoder import find_encoder

Pair = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationPreview:
    """Some training rows, and what an augmentation made of them."""

    originals: list[list[str]]
    """A list of n texts for each text column."""
    varied: VariedRows
    """The same rows, varied and judged."""

    @property
    def counts(self) -> Mapping[str, int]:
        """How many rows met each fate."""
        return self.varied.counts()

    def examples(self, most: int) -> list[Pair]:
        """Return up to ``most`` rows that are varied, each as (original, variant)."""
        return [
            (
                tuple(column[row] for column in self.originals),
                tuple(column[row] for column in self.varied.columns),
            )
            for row in self.varied.kept[: max(0, most)].tolist()
        ]


def preview(
    config: StudyConfig, table: ClickTable, trial: TrialConfig, *, num_rows: int
) -> AugmentationPreview:
    """Vary some of a table's training rows, drawn at random.

    Args:
        config: Gives the encoder and what is good enough.
        table: The study's.
        trial: Gives operation, rate and seed.
        num_rows: Rows at most.

    Raises:
        ValueError: if the encoder, or a model that the operation needs, can't be found.
    """
    rng = np.random.default_rng(trial.seed)
    training = np.flatnonzero(table.split == 0)
    rows = rng.permutation(training)[:num_rows]
    originals = [TextColumn.of(column).texts(rows) for column in table.texts]
    varied = vary_rows(
        originals,
        trial.augmentation,
        trial.augmentation_rate,
        rng,
        encoder_folder=find_encoder(config.encoder),
        max_tokens=config.encoder.max_tokens,
        config=config.augmentation,
    )
    return AugmentationPreview(originals=originals, varied=varied)
