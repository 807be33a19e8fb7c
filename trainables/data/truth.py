"""The best ROC-AUC that any model could reach on a simulated log."""

import numpy as np

from trainables.data.config import SPLIT_NAMES, DataConfig
from trainables.data.read import read_table
from trainables.data.table import ClickTable
from trainables.metrics import METRICS


def ceiling_roc_auc(config: DataConfig, table: ClickTable) -> float:
    """Score the test rows with their own true click probability.

    Returns:
        ROC-AUC of the test rows' clicks, weighted by impressions.

    Raises:
        ValueError: if the study names no truth, or it doesn't belong to this table.
    """
    probability = true_probabilities(config, table)
    test = table.split == SPLIT_NAMES.index("test")
    return METRICS["roc_auc"].function(
        probability[test], table.clicks[test], table.impressions[test]
    )


def true_probabilities(config: DataConfig, table: ClickTable) -> np.ndarray:
    """Read the true click probability of each row of the table.

    Returns:
        float64 (n,).

    Raises:
        ValueError: as :func:`ceiling_roc_auc`.
    """
    if config.truth is None:
        raise ValueError("data.truth is not set; only a simulated log has true probabilities")
    frame = read_table(config.truth, ("row", "probability")).frame
    if len(frame) != table.num_source_rows:
        raise ValueError(
            f"{config.truth} has {len(frame):,} rows, but {config.path} has "
            f"{table.num_source_rows:,}; data.truth must come from the same simulation"
        )
    if len(table) != table.num_source_rows:
        raise ValueError(
            f"{table.num_source_rows - len(table):,} identical rows of {config.path} were merged, "
            "so the true probabilities don't fit; set data.merge_identical: false"
        )
    probability = np.empty(len(frame))
    probability[frame["row"].astype(np.int64)] = frame["probability"].astype(np.float64)
    by_row: np.ndarray = probability[table.row_ids]
    return by_row
