"""The click rate of each item, whoever asks: what a ranking for a query or a user has to beat."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trainables.data.config import SPLIT_NAMES
from trainables.data.table import ClickTable
from trainables.data.text_column import number_rows
from trainables.metrics import Metric

PRIORS = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Impressions at the mean rate that are added to an item's own; validation chooses."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PopularityResult:
    """A baseline, tuned on validation."""

    validation: float
    """The metric on the validation rows."""
    prior: float
    """The chosen number of added impressions."""
    validation_probabilities: np.ndarray
    """float64: predicted for the validation rows, in the table's order."""
    test_probabilities: np.ndarray
    """float64: predicted for the test rows, in the table's order."""


def popularity_baseline(table: ClickTable, metric: Metric) -> PopularityResult:
    """Predict for each row the click rate that its item had in training.

    The item is what segment B says, or all of the text where there is no segment B. Items with few
    training rows are drawn towards the mean rate; unseen ones have it. Deterministic.

    Args:
        table: The rows; only training rows are counted.
        metric: What the strength of that pull is chosen by.
    """
    rates_with = _rates(table)
    parts = {name: table.split == part for part, name in enumerate(SPLIT_NAMES)}
    inside = parts["validation"]
    sign = 1 if metric.higher_is_better else -1
    scores = {
        prior: metric.function(
            rates_with(prior)[inside],
            table.clicks[inside],
            table.impressions[inside],
            table.groups[inside],
        )
        for prior in PRIORS
    }
    best = max(PRIORS, key=lambda prior: sign * scores[prior])
    rates = rates_with(best)
    return PopularityResult(
        validation=scores[best],
        prior=best,
        validation_probabilities=rates[inside],
        test_probabilities=rates[parts["test"]],
    )


def _rates(table: ClickTable) -> Callable[[float], np.ndarray]:
    """Count clicks by item; return each row's rate, (n,), as a function of the prior."""
    columns = table.texts[table.layout.num_first :] or table.texts
    items, _ = number_rows([column.codes for column in columns])
    train = table.split == 0
    clicks, impressions = (
        np.bincount(items[train], weights=counts[train], minlength=items.max() + 1)
        for counts in (table.clicks, table.impressions)
    )
    mean = clicks.sum() / impressions.sum()
    return lambda prior: ((clicks + prior * mean) / (impressions + prior))[items]
