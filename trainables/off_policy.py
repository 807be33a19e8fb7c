"""What another placement policy would have earned, estimated from logged clicks and propensities.

A log shows each row in one placement, which the logging policy chose with a known probability,
the propensity. Weighting a row by ``w = policy probability / propensity`` of its placement makes
the log stand for what the evaluated policy would have shown, as long as the logging policy gives
every placement that the evaluated one may choose a chance of its own.

Intervals hold 95 %. Their standard error comes from each row's influence on the estimate (the
delta method for a ratio), added up over rows that depend on each other. Clicks are rare and few
rows weigh much, so estimates are skewed: one that is too low by chance also finds too small a
standard error. Plus and minus 1.96 of them would miss a true value above many times as often as one
below, so the interval is Hall's, which takes out what skewness the influences have beyond chance
(Hall 1992, "On the removal of skewness by transformation", JRSS B 54).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Estimator = Literal["ips", "snips", "doubly_robust"]
"""How a value is estimated: see the functions of these names."""

NORMAL_95 = 1.959964
"""Standard errors to each side of a normal distribution's middle that hold 95 % of it."""
SYMMETRIC = 1e-6
"""Skewness up to which dividing by it would cost more digits than correcting for it gains."""
SMALLEST_EFFECTIVE_SAMPLE = 100
"""Effective rows below which intervals are too short; how often they miss is in
``docs/measurements.md``."""
FEWEST_REWARDED_ROWS = 10
"""Rewarded rows with a weight below which intervals are too short, by the same measurement: a
handful of clicks says little about its own spread."""
FEWEST_CLUSTERS = 40
"""Clusters below which their spread is underestimated (Cameron and Miller 2015, "A practitioner's
guide to cluster-robust inference", section VI: few is below 20 to 50)."""
FAR_FROM_ONE = 4.0
"""Standard errors between 1 and the mean weight that don't come from chance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyValue:
    """An estimate of what a policy earns a row."""

    estimator: Estimator
    """How it was estimated."""
    value: float
    """Expected reward of a row under the evaluated policy; NaN if the log says nothing about it."""
    low: float
    """Lower end of the 95 % interval; -inf if the log says nothing about the policy."""
    high: float
    """Upper end; inf if the log says nothing about the policy."""
    effective_sample_size: float
    """How many rows of equal weight would tell as much: ``(sum w)^2 / sum w^2`` (Kish 1965,
    "Survey sampling", section 11.7)."""
    num_rows: int
    """Logged rows."""
    largest_weight: float
    """Largest policy probability over propensity, after clipping."""
    mean_weight: float
    """About 1 where the propensities are right, the logging policy may choose all that the
    evaluated one chooses, and nothing is clipped."""
    warning: str
    """Why the value or its interval can't be relied on; empty if nothing speaks against them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _WeightedLog:
    rewards: np.ndarray
    weights: np.ndarray
    clusters: np.ndarray
    """int64 (n,): each row's cluster, numbered from 0."""
    num_clusters: int
    clipped: bool


def ips(
    rewards: np.ndarray,
    propensities: np.ndarray,
    policy_probabilities: np.ndarray,
    *,
    clusters: np.ndarray | None = None,
    max_weight: float | None = None,
) -> PolicyValue:
    """Inverse propensity score estimate: the mean of ``w * reward``.

    Unbiased (Horvitz and Thompson 1952, "A generalization of sampling without replacement from a
    finite universe", JASA 47). Its variance grows with the weights; it changes if a constant is
    added to all rewards, which :func:`snips` and :func:`doubly_robust` follow exactly.

    Args:
        rewards: (n,) what each logged row earned, such as 1 for a click.
        propensities: (n,) probability in (0, 1] with which the logging policy chose the row's
            placement.
        policy_probabilities: (n,) probability with which the evaluated policy chooses the logged
            placement; 0 and 1 for a policy without chance.
        clusters: (n,) code of what makes rows depend on each other, such as their request or user;
            None: rows are independent.
        max_weight: Larger weights are cut to it. That lowers the variance and biases the estimate,
            towards 0 for IPS, by an amount that the interval doesn't know.

    Raises:
        ValueError: if the arrays don't match, hold what they can't, or have fewer than two
            clusters.
    """
    log = _weigh(rewards, propensities, policy_probabilities, clusters, max_weight)
    earned = log.weights * log.rewards
    value = earned.mean()
    return _estimate("ips", float(value), earned - value, log)


def snips(
    rewards: np.ndarray,
    propensities: np.ndarray,
    policy_probabilities: np.ndarray,
    *,
    clusters: np.ndarray | None = None,
    max_weight: float | None = None,
) -> PolicyValue:
    """Self-normalized estimate: the mean reward, each row counting by its weight.

    Never outside the rewards' range, and mostly of less variance than :func:`ips`; its bias falls
    as 1 / n (Swaminathan and Joachims 2015, "The self-normalized estimator for counterfactual
    learning", NeurIPS 28). The value is NaN if every weight is 0.

    Arguments and errors as in :func:`ips`.
    """
    log = _weigh(rewards, propensities, policy_probabilities, clusters, max_weight)
    total = log.weights.sum()
    if total == 0:
        return _estimate("snips", float("nan"), log.weights, log)
    value = (log.weights * log.rewards).sum() / total
    influence = log.weights * (log.rewards - value) * (len(log.weights) / total)
    return _estimate("snips", float(value), influence, log)


def doubly_robust(
    rewards: np.ndarray,
    propensities: np.ndarray,
    policy_probabilities: np.ndarray,
    predicted: np.ndarray,
    expected: np.ndarray,
    *,
    clusters: np.ndarray | None = None,
    max_weight: float | None = None,
) -> PolicyValue:
    """Doubly robust estimate: what a model predicts, corrected by the weighted errors it makes.

    The mean of ``expected + w * (reward - predicted)``. Right if the propensities are, whatever the
    model predicts, and of less variance the better it predicts (Dudik, Langford and Li 2011,
    https://arxiv.org/abs/1103.4601; Dudik et al. 2014, https://arxiv.org/abs/1503.02834). The model
    must not have been trained on these rows: it would know their rewards, and the interval would be
    too short.

    Args:
        rewards: As in :func:`ips`, like what isn't named here.
        propensities: See there.
        policy_probabilities: See there.
        predicted: (n,) reward that the model predicts for the logged placement.
        expected: (n,) reward that it expects under the evaluated policy: the sum over all
            placements of policy probability times predicted reward.
        clusters: See there.
        max_weight: See there; the bias is towards what the model predicts.

    Raises:
        ValueError: as :func:`ips`.
    """
    log = _weigh(rewards, propensities, policy_probabilities, clusters, max_weight)
    predicted = _finite("predicted", predicted, len(log.rewards))
    expected = _finite("expected", expected, len(log.rewards))
    rows = expected + log.weights * (log.rewards - predicted)
    value = rows.mean()
    return _estimate("doubly_robust", float(value), rows - value, log)


def _weigh(
    rewards: np.ndarray,
    propensities: np.ndarray,
    policy_probabilities: np.ndarray,
    clusters: np.ndarray | None,
    max_weight: float | None,
) -> _WeightedLog:
    rewards = _finite("rewards", rewards, None)
    propensities = _finite("propensities", propensities, len(rewards))
    chosen = _finite("policy_probabilities", policy_probabilities, len(rewards))
    _refuse(
        "propensity",
        propensities,
        (propensities <= 0) | (propensities > 1),
        "expected a number in (0, 1]; a placement that was shown had a chance to be",
    )
    _refuse(
        "policy probability",
        chosen,
        (chosen < 0) | (chosen > 1),
        "expected a number in [0, 1]",
    )
    if max_weight is not None and not max_weight > 0:
        raise ValueError(f"max_weight must be above 0, got {max_weight}; use None to clip nothing")
    codes, num_clusters = _cluster_codes(clusters, len(rewards))
    with np.errstate(over="ignore"):
        weights = chosen / propensities
    _refuse(
        "policy probability over propensity",
        weights,
        ~np.isfinite(weights),
        "expected a finite number; the propensity is too small to be one",
    )
    return _WeightedLog(
        rewards=rewards,
        weights=weights if max_weight is None else np.minimum(weights, max_weight),
        clusters=codes,
        num_clusters=num_clusters,
        clipped=max_weight is not None and bool((weights > max_weight).any()),
    )


def _finite(name: str, values: np.ndarray, length: int | None) -> np.ndarray:
    # In float32 the sums over millions of rows would lose clicks.
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or (length is not None and len(array) != length):
        wanted = "(n,)" if length is None else f"({length},) like rewards"
        raise ValueError(f"{name} must have shape {wanted}, got {array.shape}; one number a row")
    _refuse(name, array, ~np.isfinite(array), "expected a finite number; drop or repair the row")
    return array


def _refuse(name: str, values: np.ndarray, wrong: np.ndarray, expected: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{name} of row {row} is {values[row]}, {expected}")


def _cluster_codes(clusters: np.ndarray | None, num_rows: int) -> tuple[np.ndarray, int]:
    if clusters is None:
        codes, num_clusters = np.arange(num_rows), num_rows
    else:
        if np.shape(clusters) != (num_rows,):
            raise ValueError(
                f"clusters must have shape ({num_rows},) like rewards, got {np.shape(clusters)}"
            )
        distinct, codes = np.unique(clusters, return_inverse=True)
        num_clusters = len(distinct)
    if num_clusters < 2:
        raise ValueError(
            f"an interval needs at least 2 independent rows or clusters, got {num_clusters} "
            f"of {num_rows} rows"
        )
    return codes, num_clusters


def _spread(influence: np.ndarray, log: _WeightedLog) -> tuple[float, float]:
    """Return standard error and skewness of the mean of the rows' influences, which sum to 0."""
    # Rows of one cluster move together.
    sums: np.ndarray = np.bincount(log.clusters, weights=influence, minlength=log.num_clusters)
    largest = float(np.abs(sums).max())
    if largest == 0:
        return 0.0, 0.0
    # In units of the largest, whose cube is a number whatever the rewards are counted in.
    sums = sums / largest
    squares = float((sums**2).sum())
    variance = squares * log.num_clusters / (log.num_clusters - 1)
    error = largest * variance**0.5 / len(influence)
    cubes, noise = float((sums**3).sum()), float((sums**6).sum())
    # Skewness of few rows, or of influences to both sides, is mostly chance, which costs doubly
    # robust intervals coverage: shrunk by the share of chance in it, as James and Stein do.
    kept = 1 - noise / cubes**2 if cubes**2 > noise else 0.0
    return error, kept * cubes / squares**1.5


def _interval(value: float, influence: np.ndarray, log: _WeightedLog) -> tuple[float, float]:
    error, skewness = _spread(influence, log)
    ends = np.array([NORMAL_95, -NORMAL_95])
    if abs(skewness) > SYMMETRIC:
        # Where Hall's g(T) = T + a T^2 / 3 + a^2 T^3 / 27 + a / 6 of the studentized T, which is
        # nearly normal, reaches the normal's ends.
        ends = 3 / skewness * (np.cbrt(1 + skewness * (ends - skewness / 6)) - 1)
    low, high = value - error * ends
    return float(low), float(high)


def _estimate(
    estimator: Estimator, value: float, influence: np.ndarray, log: _WeightedLog
) -> PolicyValue:
    largest = float(log.weights.max())
    if largest == 0:
        size, (low, high) = 0.0, (-np.inf, np.inf)
    else:
        shares = log.weights / largest
        size = float(shares.sum() ** 2 / (shares**2).sum())
        low, high = _interval(value, influence, log)
    return PolicyValue(
        estimator=estimator,
        value=value,
        low=low,
        high=high,
        effective_sample_size=size,
        num_rows=len(log.weights),
        largest_weight=largest,
        mean_weight=float(log.weights.mean()),
        warning="; ".join(_doubts(size, log)),
    )


def _doubts(effective_sample_size: float, log: _WeightedLog) -> list[str]:
    if effective_sample_size == 0:
        return [
            "no logged placement is one that the evaluated policy would choose: the log says "
            "nothing about it"
        ]
    doubts = []
    if effective_sample_size < SMALLEST_EFFECTIVE_SAMPLE:
        doubts.append(
            f"the effective sample size is {effective_sample_size:.1f} of {len(log.weights):,} "
            f"rows, below {SMALLEST_EFFECTIVE_SAMPLE}: the interval is too short; log more rows, "
            "or evaluate a policy that is nearer to the logging one"
        )
    num_rewarded = int(((log.weights > 0) & (log.rewards != 0)).sum())
    if num_rewarded < FEWEST_REWARDED_ROWS:
        doubts.append(
            f"only {num_rewarded} rewarded rows have a weight, fewer than {FEWEST_REWARDED_ROWS}: "
            "the interval is too short; log more rows"
        )
    if log.num_clusters < FEWEST_CLUSTERS < len(log.weights):
        doubts.append(
            f"only {log.num_clusters} clusters, fewer than {FEWEST_CLUSTERS}: the interval is too "
            "short"
        )
    mean = float(log.weights.mean())
    error, _ = _spread(log.weights - mean, log)
    if not log.clipped and abs(mean - 1) > max(FAR_FROM_ONE * error, 1e-6):
        doubts.append(
            f"the mean weight is {mean:.3g}, not 1: the propensities are wrong, or the evaluated "
            "policy chooses placements that the logging policy never shows"
        )
    return doubts
