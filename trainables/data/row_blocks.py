"""Arrays of very many rows, a block at a time.

NumPy copies an index to 64-bit integers, and each step of a calculation to a new array. For 50
million rows each of those takes 400 MB; for a block of them, nothing that counts.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

BLOCK_ROWS = 1_000_000
"""Rows of a block."""


def row_blocks(num_rows: int) -> Iterator[slice]:
    """Return the blocks of a table."""
    for start in range(0, num_rows, BLOCK_ROWS):
        yield slice(start, min(start + BLOCK_ROWS, num_rows))


def take_rows(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return ``values[rows]``.

    Args:
        values: (m,) values.
        rows: int (n,): places in ``values``, from its end where negative; or bool (m,).
    """
    if rows.dtype == bool:
        kept: np.ndarray = values[rows]
        return kept
    return map_rows(lambda block: values[rows[block]], len(rows), values.dtype)


def map_rows(
    calculate: Callable[[slice], np.ndarray],
    num_rows: int,
    dtype: np.dtype | type,
) -> np.ndarray:
    """Calculate a number for each row.

    Args:
        calculate: Returns those of a block's rows.
        num_rows: n.
        dtype: Of the result.

    Returns:
        (n,) numbers.
    """
    found = np.empty(num_rows, dtype=dtype)
    for block in row_blocks(num_rows):
        found[block] = calculate(block)
    return found


def narrow_numbers(num_rows: int) -> type[np.signedinteger]:
    """Return the narrower integer that can number rows."""
    return np.int32 if num_rows < 2**31 else np.int64


def hash_numbers(numbers: np.ndarray) -> np.ndarray:
    """Hash numbers as pandas does, uint64 (n,); the same in every process."""
    return map_rows(
        lambda block: pd.util.hash_array(np.ascontiguousarray(numbers[block])),
        len(numbers),
        np.uint64,
    )
