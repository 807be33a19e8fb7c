"""What a model can be judged by: ranking and calibration, weighted by impressions, and by group."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from trainables.group_metrics import (
    DEPTH,
    average_precision,
    grouped_auc,
    ndcg,
    recall,
    reciprocal_rank,
)
from trainables.scored_rows import Kernel, ScoredRows, Weighing

NUM_BINS = 15
"""Bins of the expected calibration error, as in Guo et al. 2017."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A measure of predicted click probabilities.

    A row with ``clicks`` out of ``impressions`` counts as that many positives and negatives.
    Whether it is defined depends on the rows alone, never on what was predicted for them.
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
    grows_with_noise: bool = False
    """Whether it adds up distances, which resampling alone makes larger."""

    def function(
        self,
        probabilities: np.ndarray,
        clicks: np.ndarray,
        impressions: np.ndarray,
        groups: np.ndarray,
    ) -> float:
        """Compute the metric.

        Args:
            probabilities: (n,) predicted click probabilities.
            clicks: (n,) clicks.
            impressions: (n,) impressions, at least the clicks.
            groups: (n,) codes; rows of one code were shown for one query or to one user.

        Raises:
            ValueError: if the arrays don't match, a probability isn't in [0, 1], or the metric is
                undefined on these rows.
        """
        rows = ScoredRows.of(probabilities, clicks, impressions, groups)
        value = self.measure(rows)
        if np.isnan(value):
            raise ValueError(
                f"{self.name} is undefined: {rows.clicks.sum():g} clicks in "
                f"{rows.impressions.sum():g} impressions of {len(rows.groups)} rows in "
                f"{len(np.unique(rows.groups))} groups; it needs {self.needs}"
            )
        return value

    def measure(self, rows: ScoredRows) -> float:
        """Compute the metric of checked rows; NaN where it is undefined."""
        return float(self.kernel(rows)(np.ones(len(rows.groups))))


def defined_metrics(names: Iterable[str], rows: ScoredRows) -> dict[str, float]:
    """Compute those of the named metrics that are defined on the rows."""
    values = {name: METRICS[name].measure(rows) for name in names}
    return {name: value for name, value in values.items() if not np.isnan(value)}


def _runs(ordered: np.ndarray) -> np.ndarray:
    """Return where each run of equal values starts."""
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _roc_auc(rows: ScoredRows) -> Weighing:
    """Probability that a click is ranked above a non-click, ties counting half."""
    order = np.argsort(rows.probabilities, kind="stable")
    ties = _runs(rows.probabilities[order])
    clicks, non_clicks = rows.clicks[order], rows.non_clicks[order]

    def weigh(weights: np.ndarray) -> np.ndarray:
        ordered = weights[..., order]
        positives = np.add.reduceat(ordered * clicks, ties, axis=-1)
        negatives = np.add.reduceat(ordered * non_clicks, ties, axis=-1)
        below = np.cumsum(negatives, axis=-1) - negatives / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            value: np.ndarray = (positives * below).sum(axis=-1) / (
                positives.sum(axis=-1) * negatives.sum(axis=-1)
            )
        return value

    return weigh


def _pr_auc(rows: ScoredRows) -> Weighing:
    """Average precision: precision at each threshold, weighted by the recall it adds."""
    order = np.argsort(-rows.probabilities, kind="stable")
    ties = _runs(rows.probabilities[order])
    clicks, impressions = rows.clicks[order], rows.impressions[order]

    def weigh(weights: np.ndarray) -> np.ndarray:
        ordered = weights[..., order]
        positives = np.add.reduceat(ordered * clicks, ties, axis=-1)
        found = np.cumsum(positives, axis=-1)
        shown = np.cumsum(np.add.reduceat(ordered * impressions, ties, axis=-1), axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(shown > 0, found / shown, 0.0)
            value: np.ndarray = (precision * positives).sum(axis=-1) / positives.sum(axis=-1)
        return value

    return weigh


def _log_loss(rows: ScoredRows) -> Weighing:
    """Mean negative log-likelihood of an impression, in nats."""
    tiny = np.finfo(np.float64).eps
    inside = np.clip(rows.probabilities, tiny, 1 - tiny)
    losses = -(rows.clicks * np.log(inside) + rows.non_clicks * np.log1p(-inside))

    def weigh(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            value: np.ndarray = (weights @ losses) / (weights @ rows.impressions)
        return value

    return weigh


def _normalized_entropy(rows: ScoredRows) -> Weighing:
    """Log loss over that of always predicting the rows' own click rate (He et al. 2014)."""
    log_loss = _log_loss(rows)

    def weigh(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            rate = (weights @ rows.clicks) / (weights @ rows.impressions)
            entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
            value: np.ndarray = log_loss(weights) / entropy
        return value

    return weigh


def _calibration_error(rows: ScoredRows) -> Weighing:
    """Mean distance between predicted and actual click rate in bins (Naeini et al. 2015).

    The bins hold equally many impressions of the rows as they are; resamples keep these bins. Rows
    of equal probability share a bin, so that neither their order nor chance divides them.
    """
    order = np.argsort(rows.probabilities, kind="stable")
    ties = _runs(rows.probabilities[order])
    impressions = rows.impressions[order]
    shown = np.add.reduceat(impressions, ties)
    middle = (np.cumsum(shown) - shown / 2) / max(shown.sum(), np.finfo(np.float64).tiny)
    # A middle on an edge must not change its bin with the last digit of a weight.
    bins = np.minimum(np.floor(NUM_BINS * middle + 1e-9), NUM_BINS - 1)
    starts = ties[_runs(bins)]
    surplus = impressions * rows.probabilities[order] - rows.clicks[order]

    def weigh(weights: np.ndarray) -> np.ndarray:
        distances = np.abs(np.add.reduceat(weights[..., order] * surplus, starts, axis=-1))
        with np.errstate(invalid="ignore", divide="ignore"):
            value: np.ndarray = distances.sum(axis=-1) / (weights @ rows.impressions)
        return value

    return weigh


BOTH_OUTCOMES = "clicks and impressions without a click"
A_RANKING = "a group of several rows, one of them with a click (data.columns.group)"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="roc_auc",
            label="ROC-AUC",
            higher_is_better=True,
            needs=BOTH_OUTCOMES,
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
            needs=BOTH_OUTCOMES,
            kernel=_normalized_entropy,
        ),
        Metric(
            name="ece",
            label="Expected calibration error",
            higher_is_better=False,
            needs="at least one impression",
            kernel=_calibration_error,
            grows_with_noise=True,
        ),
        Metric(
            name="gauc",
            label="GAUC",
            higher_is_better=True,
            needs=f"a group of several rows with {BOTH_OUTCOMES} (data.columns.group)",
            kernel=grouped_auc,
        ),
        Metric(
            name=f"ndcg@{DEPTH}",
            label=f"NDCG@{DEPTH}",
            higher_is_better=True,
            needs=A_RANKING,
            kernel=ndcg,
        ),
        Metric(
            name="mrr", label="MRR", higher_is_better=True, needs=A_RANKING, kernel=reciprocal_rank
        ),
        Metric(
            name=f"recall@{DEPTH}",
            label=f"Recall@{DEPTH}",
            higher_is_better=True,
            needs=A_RANKING,
            kernel=recall,
        ),
        Metric(
            name="map",
            label="MAP",
            higher_is_better=True,
            needs=A_RANKING,
            kernel=average_precision,
        ),
    )
}
"""Every metric by name."""
