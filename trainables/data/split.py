"""Divide rows into training, validation and test, without leaks."""

import numpy as np

from trainables.data.config import SplitConfig
from trainables.data.row_blocks import map_rows, narrow_numbers, row_blocks, take_rows


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
        return _by_time(times, config.fractions)
    rng = np.random.default_rng(config.seed)
    if config.by == "group":
        assert groups is not None
        codes, sizes = _count(groups)
        order = rng.permutation(len(sizes))
        by_group = np.empty(len(sizes), dtype=np.int8)
        by_group[order] = _cut(sizes[order], config.fractions)
        return take_rows(by_group, codes)
    assert keys is not None
    places = np.arange(len(keys), dtype=narrow_numbers(len(keys)))
    rng.shuffle(places)
    # Rows of equal keys are alike, so which of them goes where makes no difference.
    by_place = np.empty(len(keys), dtype=np.int8)
    for block in row_blocks(len(keys)):
        by_place[places[block]] = _cut_rows(block, len(keys), config.fractions)
    del places
    order = np.argsort(keys, kind="stable")
    drawn = np.empty(len(keys), dtype=np.int8)
    drawn[order] = by_place
    return drawn


def _count(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number groups from 0 in ascending order, (n,), and count the rows of each."""
    if groups.dtype.kind != "i" or groups.min() < 0 or groups.max() > 2 * len(groups):
        _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        return codes, sizes
    # Sorting them would take several times their memory.
    sizes = np.bincount(groups)
    present = sizes > 0
    numbers = (np.cumsum(present) - 1).astype(groups.dtype)
    return take_rows(numbers, groups), sizes[present]


def _by_time(times: np.ndarray, fractions: tuple[float, float, float]) -> np.ndarray:
    ordered = np.sort(times)
    new = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    starts = np.concatenate([[0], new])
    parts = _cut(np.diff(starts, append=len(times)), fractions)
    # Later moments are in the same part or a later one.
    places = np.searchsorted(parts, [1, 2])
    firsts = ordered[starts[places[places < len(starts)]]]
    del ordered
    return map_rows(
        lambda block: np.searchsorted(firsts, times[block], side="right"), len(times), np.int8
    )


def _cut(sizes: np.ndarray, fractions: tuple[float, float, float]) -> np.ndarray:
    """Divide a sequence of blocks by rows, each block whole, by where its middle row falls."""
    middles = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
    parts: np.ndarray = np.searchsorted(np.cumsum(fractions)[:2], middles, side="right")
    return parts.astype(np.int8)


def _cut_rows(rows: slice, num_rows: int, fractions: tuple[float, float, float]) -> np.ndarray:
    """Divide some of n rows as :func:`_cut` does blocks of one row."""
    middles = (np.arange(rows.start + 1, rows.stop + 1) - 0.5) / num_rows
    return np.searchsorted(np.cumsum(fractions)[:2], middles, side="right").astype(np.int8)
