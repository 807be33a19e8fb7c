"""Batches of rows of like length, so that little of a batch is padding."""

import numpy as np

BATCHES_IN_POOL = 100
"""Batches that are sorted by length together: enough that neighbours are about equally long, few
enough that which rows meet in a batch differs from epoch to epoch."""


def like_length_batches(
    lengths: np.ndarray, batch_size: int, rng: np.random.Generator
) -> list[np.ndarray]:
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
    order = rng.permutation(len(lengths))
    pool_size = BATCHES_IN_POOL * batch_size
    batches: list[np.ndarray] = []
    for start in range(0, len(order), pool_size):
        pool = order[start : start + pool_size]
        pool = pool[np.argsort(np.asarray(lengths)[pool], kind="stable")]
        batches += [pool[at : at + batch_size] for at in range(0, len(pool), batch_size)]
    return [batches[number] for number in rng.permutation(len(batches))]
