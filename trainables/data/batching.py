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

    Flat arrays instead of an array object a batch: an epoch of millions of rows is planned in a few
    bytes a row.
    """

    rows: np.ndarray
    """int (n,): all row numbers; each batch is a run of them."""
    bounds: np.ndarray
    """int64 (batches + 1,): run i is ``rows[bounds[i]:bounds[i + 1]]``."""
    order: np.ndarray
    """int (batches,): which run comes when."""

    def __len__(self) -> int:
        return len(self.order)

    @overload
    def __getitem__(self, place: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, place: slice) -> list[np.ndarray]: ...
    def __getitem__(self, place: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(place, slice):
            return [self[each] for each in range(len(self))[place]]
        run = int(self.order[place])
        return self.rows[self.bounds[run] : self.bounds[run + 1]]


def like_length_batches(
    lengths: np.ndarray,
    batch_size: int | None,
    rng: np.random.Generator,
    *,
    batch_tokens: int | None = None,
) -> BatchPlan:
    """Divide all rows into batches of like length, in random order.

    Args:
        lengths: (n,) number of tokens of each row.
        batch_size: Rows of a batch; one batch may be smaller. None: ``batch_tokens`` decides.
        rng: Decides which rows meet, and the order of the batches.
        batch_tokens: Most tokens of a batch, padding included; a row that has more is a batch of
            its own.

    Returns:
        Row numbers of each batch; every row is in exactly one. With a batch size there are
        ceil(n / batch_size).

    Raises:
        ValueError: unless exactly one of the two sizes is given, and is 1 or more.
    """
    _check_sizes(batch_size, batch_tokens)
    lengths = np.asarray(lengths)
    rows = np.arange(len(lengths), dtype=np.int32 if len(lengths) < 2**31 else np.int64)
    rng.shuffle(rows)
    if batch_size is not None:
        pool_size = BATCHES_IN_POOL * batch_size
    else:
        assert batch_tokens is not None
        mean = max(1.0, float(lengths.mean())) if len(lengths) else 1.0
        pool_size = BATCHES_IN_POOL * max(1, int(batch_tokens / mean))
    bounds = [np.zeros(1, dtype=np.int64)]
    for start in range(0, len(rows), pool_size):
        pool = rows[start : start + pool_size]
        pool[:] = pool[np.argsort(lengths[pool], kind="stable")]
        if batch_size is not None:
            ends = np.minimum(np.arange(batch_size, len(pool) + batch_size, batch_size), len(pool))
        else:
            assert batch_tokens is not None
            ends = _ends_within(lengths[pool], batch_tokens)
        bounds.append(start + ends)
    ends = np.concatenate(bounds)
    return BatchPlan(rows=rows, bounds=ends, order=rng.permutation(len(ends) - 1))


def _check_sizes(batch_size: int | None, batch_tokens: int | None) -> None:
    if (batch_size is None) == (batch_tokens is None):
        raise ValueError(
            f"give batch_size or batch_tokens, not both: got {batch_size} and {batch_tokens}"
        )
    for name, size in (("batch_size", batch_size), ("batch_tokens", batch_tokens)):
        if size is not None and size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")


def group_batches(
    lengths: np.ndarray,
    groups: np.ndarray,
    batch_size: int | None,
    rng: np.random.Generator,
    *,
    batch_tokens: int | None = None,
) -> BatchPlan:
    """Divide all rows into batches of whole groups whose rows are of like length, in random order.

    A group with more rows than fit is divided at random into parts of about equal size, each of
    which counts as a group: its rows then meet a random sample of the others, a new one in each
    epoch.

    Args:
        lengths: (n,) number of tokens of each row.
        groups: (n,) codes: rows of equal code belong together.
        batch_size: Most rows of a batch. None: ``batch_tokens`` decides.
        rng: Decides which groups meet, how large ones are divided, and the order of the batches.
        batch_tokens: Most tokens of a batch, padding included; a row that has more is a batch of
            its own.

    Returns:
        Row numbers of each batch; every row is in exactly one.

    Raises:
        ValueError: unless exactly one of the two sizes is given, and is 1 or more.
    """
    _check_sizes(batch_size, batch_tokens)
    lengths = np.asarray(lengths)
    # Rows of a group follow each other, in random order; groups too, in an order of their own.
    _, codes = np.unique(groups, return_inverse=True)
    codes = rng.permutation(codes.max() + 1 if len(codes) else 0)[codes]
    rows = rng.permutation(len(lengths))
    rows = rows[np.argsort(codes[rows], kind="stable")]
    starts = _part_starts(codes[rows], lengths[rows], batch_size, batch_tokens)
    sizes = np.diff(starts, append=len(rows))
    longest = np.maximum.reduceat(lengths[rows], starts) if len(starts) else starts
    # Groups of the usual number of rows and tokens that fill so many batches.
    usual = sizes if batch_size is not None else sizes * np.maximum(longest, 1)
    whole = BATCHES_IN_POOL * (batch_size or batch_tokens or 1)
    per_pool = max(1, int(whole / max(1.0, float(usual.mean())))) if len(usual) else 1
    order, ends = [], []
    for first in range(0, len(starts), per_pool):
        pool = np.arange(first, min(first + per_pool, len(starts)))
        pool = pool[np.argsort(longest[pool], kind="stable")]
        order.append(pool)
        ends.append(first + _group_ends(sizes[pool], longest[pool], batch_size, batch_tokens))
    return _plan_of_groups(rows, starts, sizes, order, ends, rng)


def _plan_of_groups(
    rows: np.ndarray,
    starts: np.ndarray,
    sizes: np.ndarray,
    order: list[np.ndarray],
    ends: list[np.ndarray],
    rng: np.random.Generator,
) -> BatchPlan:
    """Put rows into the order of their groups, and cut where a batch's last group ends."""
    if not len(rows):
        return BatchPlan(rows=rows, bounds=np.zeros(1, np.int64), order=np.arange(0))
    groups = np.concatenate(order)
    sizes, starts = sizes[groups], starts[groups]
    stops = np.cumsum(sizes)
    places = np.arange(len(rows)) - np.repeat(stops - sizes, sizes) + np.repeat(starts, sizes)
    bounds = np.concatenate([[0], stops[np.concatenate(ends) - 1]]).astype(np.int64)
    return BatchPlan(rows=rows[places], bounds=bounds, order=rng.permutation(len(bounds) - 1))


def _part_starts(
    codes: np.ndarray, lengths: np.ndarray, batch_size: int | None, batch_tokens: int | None
) -> np.ndarray:
    """Return where each group begins, and each part of a group that is too large for a batch.

    Args:
        codes: (n,) code of each row's group; equal codes follow each other.
        lengths: (n,) number of tokens of each row.
        batch_size: Most rows of a batch, or None.
        batch_tokens: Most tokens of a batch, or None.
    """
    if not len(codes):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    sizes = np.diff(starts, append=len(codes))
    if batch_tokens is not None:
        longest = np.maximum(np.maximum.reduceat(lengths, starts), 1)
        most = np.maximum(batch_tokens // longest, 1)
    else:
        most = np.full(len(starts), batch_size)
    num_parts = -(-sizes // most)
    number = np.arange(num_parts.sum()) - np.repeat(np.cumsum(num_parts) - num_parts, num_parts)
    parts: np.ndarray = np.repeat(starts, num_parts) + (
        number * np.repeat(sizes, num_parts) // np.repeat(num_parts, num_parts)
    )
    return parts


def _group_ends(
    sizes: np.ndarray, longest: np.ndarray, batch_size: int | None, batch_tokens: int | None
) -> np.ndarray:
    """Cut groups of ascending length so that each run of them fits into a batch.

    Returns:
        int64 (batches,): where each run ends.
    """
    ends, rows = [], 0
    for group, (size, length) in enumerate(zip(sizes.tolist(), longest.tolist(), strict=True)):
        rows += size
        if batch_size is not None:
            fits = rows <= batch_size
        else:
            assert batch_tokens is not None
            fits = rows * length <= batch_tokens
        if not fits and rows > size:
            ends.append(group)
            rows = size
    return np.array([*ends, len(sizes)], dtype=np.int64)


def batches_in_order(
    lengths: np.ndarray, *, batch_tokens: int, most_rows: int | None = None
) -> list[np.ndarray]:
    """Cut rows, in the order of their lengths, into batches: those of an evaluation.

    Args:
        lengths: (n,) number of tokens of each row.
        batch_tokens: Most tokens of a batch, padding included; a row that has more is a batch of
            its own.
        most_rows: Most rows of a batch; None: no limit.

    Returns:
        Row numbers of each batch; every row is in exactly one.
    """
    lengths = np.asarray(lengths)
    order = np.argsort(lengths, kind="stable")
    ends = _ends_within(lengths[order], batch_tokens, most_rows)
    return np.split(order, ends[:-1]) if len(order) else []


def _ends_within(
    lengths: np.ndarray, batch_tokens: int, most_rows: int | None = None
) -> np.ndarray:
    """Cut rows of ascending length so that rows x longest stays within a budget.

    Returns:
        int64 (batches,): where each batch ends.
    """
    ends, start = [], 0
    while start < len(lengths):
        # A longer row makes the whole batch longer: count rows while (rows so far) x length fits.
        # That product only grows, so the first that is too large is found by bisection.
        fitting = max(1, batch_tokens // max(1, int(lengths[start])))
        if most_rows is not None:
            fitting = min(fitting, most_rows)
        low, high = start + 1, min(len(lengths), start + fitting)
        while low < high:
            middle = (low + high + 1) // 2
            fits = (middle - start) * int(lengths[middle - 1]) <= batch_tokens
            low, high = (middle, high) if fits else (low, middle - 1)
        ends.append(low)
        start = low
    return np.array(ends, dtype=np.int64)
