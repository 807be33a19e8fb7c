"""Vary rows, and keep only variants that say what their originals do."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.augmentation import OPERATIONS
from trainables.augmentation.config import AugmentationConfig
from trainables.augmentation.protection import Protection

FATES = (
    "varied",
    "unchanged",
    "too short or too long",
    "lost a protected word",
    "too far from the original",
)
"""What may become of a row; only in the first case is it another one."""
VARIED, UNCHANGED, OFF_LENGTH, LOST_WORD, TOO_FAR = range(len(FATES))


@dataclass(frozen=True, kw_only=True, slots=True)
class VariedRows:
    """Rows after an operation."""

    columns: list[list[str]]
    """A list of n texts for each text column, as the operation wrote them, kept or not."""
    fates: np.ndarray
    """int8 (n,): what became of each row, as its place in :data:`FATES`."""

    @property
    def kept(self) -> np.ndarray:
        """int64 (kept,): numbers of the rows that are varied."""
        return np.flatnonzero(self.fates == VARIED)

    def counts(self) -> dict[str, int]:
        """Return how many rows met each fate."""
        counts = np.bincount(self.fates, minlength=len(FATES)).tolist()
        return dict(zip(FATES, counts, strict=True))


def vary_rows(
    columns: Sequence[Sequence[str]],
    augmentation: str,
    rate: float,
    rng: np.random.Generator,
    *,
    encoder_folder: Path,
    max_tokens: int,
    config: AugmentationConfig,
) -> VariedRows:
    """Vary rows by one operation and judge the result.

    Args:
        columns: n texts for each text column.
        augmentation: The operation's name.
        rate: The operation's rate.
        rng: Decides.
        encoder_folder: The encoder's files.
        max_tokens: Longest input of the encoder.
        config: What must stay, and what is good enough.
    """
    operation = OPERATIONS[augmentation](encoder_folder, config)
    varied = [operation(column, rate, rng) for column in columns]
    protection = Protection.of(config.protected_words)
    fates = np.full(len(columns[0]), UNCHANGED, dtype=np.int8)
    for originals, variants in zip(columns, varied, strict=True):
        pairs = zip(originals, variants, strict=True)
        # A row is as bad as its worst text.
        found = [_fate(*pair, protection, config.quality.length_ratio) for pair in pairs]
        fates = _worse(fates, np.array(found, dtype=np.int8))
    result = VariedRows(columns=varied, fates=fates)
    if config.compares(augmentation):
        _compare(columns, result, encoder_folder, max_tokens, config.quality.min_similarity)
    return result


def _worse(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    # Unchanged gives way to varied, and varied to what is wrong.
    rank = np.array([1, 0, 2, 3, 4])
    worse: np.ndarray = np.where(rank[other] > rank[one], other, one)
    return worse


def _fate(original: str, variant: str, protection: Protection, ratio: tuple[float, float]) -> int:
    if variant == original or variant.split() == original.split():
        return UNCHANGED
    least, most = ratio
    if not least * len(original) <= len(variant) <= most * len(original):
        return OFF_LENGTH
    if protection.count(variant) != protection.count(original):
        return LOST_WORD
    return VARIED


def _compare(
    columns: Sequence[Sequence[str]],
    result: VariedRows,
    encoder_folder: Path,
    max_tokens: int,
    min_similarity: float,
) -> None:
    from trainables.augmentation.similarity import similarities

    for originals, variants in zip(columns, result.columns, strict=True):
        rows = [row for row in result.kept.tolist() if originals[row] != variants[row]]
        cosines = similarities(
            [originals[row] for row in rows],
            [variants[row] for row in rows],
            encoder_folder,
            max_tokens=max_tokens,
        )
        result.fates[np.array(rows, dtype=np.int64)[cosines < min_similarity]] = TOO_FAR
