"""Batches of rows of like length, so that little of a batch is padding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

BATCHES_IN_POOL = 100
"""Batches that are sorted by length together: enough that neighbours are about equally long, few
enough that which rows meet in a batch differs from epoch to epoch."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BatchPlan(Sequence[np.ndarray]):
    """An epoch's batches: arrays of row numbers, cut when they are asked for.

    Two flat arrays instead of an array object a batch: an epoch of millions of rows is planned in
    about five bytes a row.
    """

    rows: np.ndarray
    """int (n,): all row numbers; each run of ``batch_size`` is a batch."""
    order: np.ndarray
    """int (batches,): which run comes when."""
    batch_size: int
    """Rows of a batch; the last run may be shorter."""

    def __len__(self) -> int:
        return len(self.order)

    @overload
    def __getitem__(self, place: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, place: slice) -> list[np.ndarray]: ...
    def __getitem__(self, place: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(place, slice):
            return [self[each] for each in range(len(self))[place]]
        start = int(self.order[place]) * self.batch_size
        return self.rows[start : start + self.batch_size]


def like_length_batches(
    lengths: np.ndarray, batch_size: int, rng: np.random.Generator
) -> BatchPlan:
    """Divide all rows into batches of like length, in random order.

    Args:
        lengths: (n,) number of tokens of each row.
        batch_size: Rows of a batch; one batch may be smaller.
        rng: Decides which rows meet, and the order of the batches.

    Returns:
        ceil(n / batch_size) arrays of row numbers; every row is in exactly one.

    Raises:
        ValueError: if ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    rows = np.arange(len(lengths), dtype=np.int32 if len(lengths) < 2**31 else np.int64)
    rng.shuffle(rows)
    pool_size = BATCHES_IN_POOL * batch_size
    for start in range(0, len(rows), pool_size):
        pool = rows[start : start + pool_size]
        pool[:] = pool[np.argsort(np.asarray(lengths)[pool], kind="stable")]
    order = rng.permutation(-(-len(rows) // batch_size))
    return BatchPlan(rows=rows, order=order, batch_size=batch_size)
