"""Ranking and calibration metrics, weighted by impressions, with bootstrap intervals."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

BLOCK_ELEMENTS = 4_000_000
"""Rows times resamples that are held in memory together: 32 MB an array."""

Kernel = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(n,) probabilities, (..., n) clicks and (..., n) non-clicks to (...) values; NaN: undefined."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A measure of predicted click probabilities.

    A row with ``clicks`` out of ``impressions`` counts as that many positives and negatives.
    """

    name: str
    """How a study file names it."""
    label: str
    """How a report names it."""
    higher_is_better: bool
    """Whether it is maximized."""
    needs: str
    """What must be there for it to be defined."""
    kernel: Kernel
    """Its computation, for many weightings of the same rows at once."""

    def function(
        self, probabilities: np.ndarray, clicks: np.ndarray, impressions: np.ndarray
    ) -> float:
        """Compute the metric.

        Args:
            probabilities: (n,) predicted click probabilities.
            clicks: (n,) clicks.
            impressions: (n,) impressions, at least the clicks.

        Raises:
            ValueError: if the arrays don't match, a probability isn't in [0, 1], or the metric is
                undefined on these rows.
        """
        probabilities, clicks, impressions = _checked(probabilities, clicks, impressions)
        value = float(self.kernel(probabilities, clicks, impressions - clicks))
        if np.isnan(value):
            raise ValueError(
                f"{self.name} is undefined: {clicks.sum():g} clicks in {impressions.sum():g} "
                f"impressions of {len(clicks)} rows; it needs {self.needs}"
            )
        return value


def _checked(
    probabilities: np.ndarray, clicks: np.ndarray, impressions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # In float32 the sums over millions of impressions would lose clicks.
    arrays = [np.asarray(array, np.float64) for array in (probabilities, clicks, impressions)]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1 or arrays[0].ndim != 1:
        raise ValueError(
            "probabilities, clicks and impressions must be three arrays of one length, "
            f"got shapes {', '.join(map(str, shapes))}"
        )
    wrong = ~((arrays[0] >= 0) & (arrays[0] <= 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"probability of row {row} is {arrays[0][row]}, expected a number in [0, 1]; "
            "a diverged model predicts NaN"
        )
    if (arrays[1] < 0).any() or (arrays[1] > arrays[2]).any():
        raise ValueError("clicks must be in [0, impressions] in every row")
    return arrays[0], arrays[1], arrays[2]


def _sum_ties(
    probabilities: np.ndarray, weights: tuple[np.ndarray, ...], *, descending: bool
) -> tuple[np.ndarray, ...]:
    """Add up weights over rows of equal probability, in order of probability."""
    order = np.argsort(-probabilities if descending else probabilities, kind="stable")
    ordered = probabilities[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return tuple(np.add.reduceat(weight[..., order], starts, axis=-1) for weight in weights)


def _roc_auc(probabilities: np.ndarray, clicks: np.ndarray, non_clicks: np.ndarray) -> np.ndarray:
    """Probability that a click is ranked above a non-click, ties counting half."""
    positives, negatives = _sum_ties(probabilities, (clicks, non_clicks), descending=False)
    below = np.cumsum(negatives, axis=-1) - negatives / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        value: np.ndarray = (positives * below).sum(axis=-1) / (
            positives.sum(axis=-1) * negatives.sum(axis=-1)
        )
    return value


def _pr_auc(probabilities: np.ndarray, clicks: np.ndarray, non_clicks: np.ndarray) -> np.ndarray:
    """Average precision: precision at each threshold, weighted by the recall it adds."""
    positives, negatives = _sum_ties(probabilities, (clicks, non_clicks), descending=True)
    found = np.cumsum(positives, axis=-1)
    shown = found + np.cumsum(negatives, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(shown > 0, found / shown, 0.0)
        value: np.ndarray = (precision * positives).sum(axis=-1) / positives.sum(axis=-1)
    return value


def _log_loss(probabilities: np.ndarray, clicks: np.ndarray, non_clicks: np.ndarray) -> np.ndarray:
    """Mean negative log-likelihood of an impression, in nats."""
    tiny = np.finfo(np.float64).eps
    inside = np.clip(probabilities, tiny, 1 - tiny)
    loss = -(clicks @ np.log(inside) + non_clicks @ np.log1p(-inside))
    with np.errstate(invalid="ignore", divide="ignore"):
        value: np.ndarray = loss / (clicks.sum(axis=-1) + non_clicks.sum(axis=-1))
    return value


def _normalized_entropy(
    probabilities: np.ndarray, clicks: np.ndarray, non_clicks: np.ndarray
) -> np.ndarray:
    """Log loss over that of always predicting the rows' own click rate (He et al. 2014)."""
    clicked, not_clicked = clicks.sum(axis=-1), non_clicks.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = clicked / (clicked + not_clicked)
        entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
        value: np.ndarray = _log_loss(probabilities, clicks, non_clicks) / entropy
    return value


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="roc_auc",
            label="ROC-AUC",
            higher_is_better=True,
            needs="clicks and impressions without a click",
            kernel=_roc_auc,
        ),
        Metric(
            name="pr_auc",
            label="PR-AUC",
            higher_is_better=True,
            needs="at least one click",
            kernel=_pr_auc,
        ),
        Metric(
            name="log_loss",
            label="Log loss",
            higher_is_better=False,
            needs="at least one impression",
            kernel=_log_loss,
        ),
        Metric(
            name="normalized_entropy",
            label="Normalized entropy",
            higher_is_better=False,
            needs="clicks and impressions without a click",
            kernel=_normalized_entropy,
        ),
    )
}
"""Every metric by name."""


def bootstrap_interval(  # noqa: PLR0913 - the rows' three arrays belong side by side, as in Metric
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
        The interval's lower and upper end.

    Raises:
        ValueError: if there are fewer than two groups, or the metric is undefined.
    """
    rows = _checked(probabilities, clicks, impressions)
    values = np.concatenate(
        [
            metric.kernel(rows[0], drawn * rows[1], drawn * (rows[2] - rows[1]))
            for drawn in _resamples(groups, num_resamples, rng)
        ]
    )
    return _percentiles(metric, values, confidence)


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
    rows = _checked(probabilities, clicks, impressions)
    others = _checked(other_probabilities, clicks, impressions)[0]
    values = []
    for drawn in _resamples(groups, num_resamples, rng):
        clicked, not_clicked = drawn * rows[1], drawn * (rows[2] - rows[1])
        values.append(
            metric.kernel(rows[0], clicked, not_clicked)
            - metric.kernel(others, clicked, not_clicked)
        )
    return _percentiles(metric, np.concatenate(values), confidence)


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


def _percentiles(metric: Metric, values: np.ndarray, confidence: float) -> tuple[float, float]:
    # A resample may miss every click of a small table; it says nothing about the metric.
    defined = values[~np.isnan(values)]
    if not len(defined):
        raise ValueError(f"{metric.name} is undefined in every resample; it needs {metric.needs}")
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
