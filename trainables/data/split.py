"""Divide rows into training, validation and test, without leaks."""

import numpy as np

from trainables.data.config import SplitConfig


def split_rows(
    config: SplitConfig,
    *,
    keys: np.ndarray | None,
    groups: np.ndarray | None,
    times: np.ndarray | None,
    parts: np.ndarray | None = None,
) -> np.ndarray:
    """Assign each row to training (0), validation (1) or test (2).

    The same rows in another order are divided alike.

    Args:
        config: How to divide.
        keys: uint64 (n,): hash of each row's content, for the random split.
        groups: (n,) names, or numbers that are ordered like them, for the split by group.
        times: (n,) numbers, for the split by time.
        parts: int8 (n,): what the table says, for the split by column.

    Returns:
        int8 (n,).
    """
    if config.by == "column":
        assert parts is not None
        return parts
    if config.by == "time":
        assert times is not None
        _, codes, sizes = np.unique(times, return_inverse=True, return_counts=True)
        return _cut(sizes, config.fractions)[codes]
    rng = np.random.default_rng(config.seed)
    if config.by == "group":
        assert groups is not None
        _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        order = rng.permutation(len(sizes))
        by_group = np.empty(len(sizes), dtype=np.int8)
        by_group[order] = _cut(sizes[order], config.fractions)
        return by_group[codes]
    assert keys is not None
    drawn = np.empty(len(keys), dtype=np.int8)
    # Rows of equal keys are alike, so which of them goes where makes no difference.
    order = np.argsort(keys, kind="stable")[rng.permutation(len(keys))]
    drawn[order] = _cut(np.ones(len(keys), dtype=np.int64), config.fractions)
    return drawn


def _cut(sizes: np.ndarray, fractions: tuple[float, float, float]) -> np.ndarray:
    """Divide a sequence of blocks by rows, each block whole, by where its middle row falls."""
    middles = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
    parts: np.ndarray = np.searchsorted(np.cumsum(fractions)[:2], middles, side="right")
    return parts.astype(np.int8)
