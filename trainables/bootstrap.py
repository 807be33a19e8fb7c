"""Bootstrap intervals of metrics and of their differences, with whole groups drawn."""

from collections.abc import Iterator

import numpy as np

from trainables.metrics import Metric
from trainables.scored_rows import ScoredRows

BLOCK_ELEMENTS = 4_000_000
"""Rows times resamples that are held in memory together: 32 MB an array."""


def bootstrap_interval(  # noqa: PLR0913 - the rows' four arrays belong side by side, as in Metric
    metric: Metric,
    probabilities: np.ndarray,
    clicks: np.ndarray,
    impressions: np.ndarray,
    groups: np.ndarray,
    *,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a metric, with whole groups drawn with replacement.

    Resampling adds noise of its own, by which a metric that adds up distances grows. Percentiles of
    such a metric are shifted back by their mean growth; they would miss the metric otherwise.

    Args:
        metric: What is measured.
        probabilities: (n,) predicted click probabilities.
        clicks: (n,) clicks.
        impressions: (n,) impressions.
        groups: (n,) codes; rows of one code are drawn together, since they aren't independent.
        num_resamples: How many times the groups are drawn.
        confidence: Share of the resamples inside the interval.
        rng: Draws the groups.

    Returns:
        The interval's lower and upper end; neither is below zero, as no metric is.

    Raises:
        ValueError: if there are fewer than two groups, or the metric is undefined.
    """
    rows = ScoredRows.of(probabilities, clicks, impressions, groups)
    weigh = metric.kernel(rows)
    values = [weigh(drawn) for drawn in _resamples(groups, num_resamples, rng)]
    whole = float(weigh(np.ones(len(rows.groups))))
    low, high = _percentiles(metric, np.concatenate(values), confidence, whole)
    return max(low, 0.0), high


def bootstrap_difference(  # noqa: PLR0913 - see bootstrap_interval
    metric: Metric,
    probabilities: np.ndarray,
    other_probabilities: np.ndarray,
    clicks: np.ndarray,
    impressions: np.ndarray,
    groups: np.ndarray,
    *,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Interval of how much higher a metric is than with other probabilities for the same rows.

    Both are measured on the same resamples, so what they share cancels. Arguments and errors as in
    :func:`bootstrap_interval`; the difference is ``probabilities`` minus ``other_probabilities``.
    """
    weigh = metric.kernel(ScoredRows.of(probabilities, clicks, impressions, groups))
    weigh_other = metric.kernel(ScoredRows.of(other_probabilities, clicks, impressions, groups))
    values = [weigh(drawn) - weigh_other(drawn) for drawn in _resamples(groups, num_resamples, rng)]
    all_once = np.ones(len(groups))
    whole = float(weigh(all_once) - weigh_other(all_once))
    return _percentiles(metric, np.concatenate(values), confidence, whole)


def _resamples(
    groups: np.ndarray, num_resamples: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield blocks of (resamples, n): how often each row was drawn."""
    distinct, codes = np.unique(groups, return_inverse=True)
    num_groups = len(distinct)
    if num_groups < 2:
        raise ValueError(
            f"a bootstrap interval needs at least 2 groups to draw from, got {num_groups}"
        )
    block = max(1, BLOCK_ELEMENTS // len(codes))
    for start in range(0, num_resamples, block):
        size = min(block, num_resamples - start)
        drawn = rng.integers(num_groups, size=(size, num_groups))
        drawn += np.arange(size)[:, None] * num_groups
        counts = np.bincount(drawn.ravel(), minlength=size * num_groups)
        yield counts.reshape(size, num_groups)[:, codes].astype(np.float64)


def _percentiles(
    metric: Metric, values: np.ndarray, confidence: float, whole: float
) -> tuple[float, float]:
    # A resample may miss every click of a small table; it says nothing about the metric.
    defined = values[~np.isnan(values)]
    if not len(defined):
        raise ValueError(f"{metric.name} is undefined in every resample; it needs {metric.needs}")
    if metric.grows_with_noise:
        defined = defined - (defined.mean() - whole)
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
