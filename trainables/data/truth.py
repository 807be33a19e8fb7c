"""The true click probabilities of a simulated log, which no model can beat."""

import numpy as np
import pandas as pd

from trainables.data.config import DataConfig
from trainables.data.read import read_table
from trainables.data.table import ClickTable


def true_probabilities(config: DataConfig, table: ClickTable) -> np.ndarray:
    """Read the true click probability of each row of the table.

    Returns:
        float64 (n,).

    Raises:
        ValueError: if the study names no truth, or it doesn't belong to this table.
    """
    if config.truth is None:
        raise ValueError("data.truth is not set; only a simulated log has true probabilities")
    frame = read_table(config.truth, ("row", "probability")).frame
    if len(frame) != table.num_source_rows:
        raise ValueError(
            f"{config.truth} has {len(frame):,} rows, but {config.path} has "
            f"{table.num_source_rows:,}; data.truth must come from the same simulation"
        )
    num_skipped = 0 if table.bad_rows is None else table.bad_rows.num_rows
    if num_merged := table.num_source_rows - num_skipped - len(table):
        raise ValueError(
            f"{num_merged:,} identical rows of {config.path} were merged, "
            "so the true probabilities don't fit; set data.merge_identical: false"
        )
    numbers = pd.to_numeric(frame["row"], errors="coerce").to_numpy(dtype=np.float64)
    values = pd.to_numeric(frame["probability"], errors="coerce").to_numpy(dtype=np.float64)
    if not np.array_equal(np.sort(numbers), np.arange(len(frame))):
        raise ValueError(
            f"{config.truth}: the column row must hold each row number from 0 to {len(frame) - 1} "
            "once; data.truth must come from the same simulation"
        )
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"{config.truth}: the column probability must hold numbers in [0, 1]")
    probability = np.empty(len(frame))
    probability[numbers.astype(np.int64)] = values
    by_row: np.ndarray = probability[table.row_ids]
    return by_row
