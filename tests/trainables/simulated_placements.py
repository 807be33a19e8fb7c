"""Simulated logs with policies to evaluate on them, whose true values are known."""

from dataclasses import dataclass

import numpy as np

from trainables.data.placement_truth import (
    PLACEMENTS,
    logged_placements,
    placement_probabilities,
)
from trainables.data.simulate import SimulationConfig, simulate
from trainables.off_policy import PolicyValue, doubly_robust, ips, snips
from trainables.placement_policy import greedy_placements, softmax_probabilities


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacementLog:
    """A simulated log as the estimators see it, and what only the simulation knows."""

    clicks: np.ndarray
    propensities: np.ndarray
    placements: np.ndarray
    """int64 (n,): which of PLACEMENTS each row was shown in."""
    pages: np.ndarray
    """int64 (n,): each row's result page."""
    truth: np.ndarray
    """(n, k) true click probabilities."""
    predicted: np.ndarray
    """(n, k) predictions of a mediocre model."""
    allowed: np.ndarray
    """bool (n, k): some half of the placements, differing by row."""


def simulate_placements(seed: int, num_impressions: int) -> PlacementLog:
    """Simulate a small shop's log and a model whose predictions are flattened and noisy."""
    simulation = simulate(
        SimulationConfig(
            num_impressions=num_impressions,
            num_products=60,
            num_queries=60,
            num_users=500,
            seed=seed,
        )
    )
    log, truth = simulation.log, placement_probabilities(simulation.log, simulation.truth)
    rng = np.random.default_rng([seed, 1])
    noise = rng.normal(scale=0.3, size=truth.shape)
    allowed = rng.random(truth.shape) < 0.5
    allowed[:, 0] |= ~allowed.any(axis=1)
    return PlacementLog(
        clicks=log["label"].to_numpy(),
        propensities=log["propensity"].to_numpy(),
        placements=logged_placements(log),
        pages=log.groupby(["timestamp", "user"]).ngroup().to_numpy(),
        truth=truth,
        predicted=truth**0.8 * np.exp(noise),
        allowed=allowed,
    )


def policies(log: PlacementLog) -> dict[str, np.ndarray]:
    """Return (n, k) probabilities of a policy without chance and one with it, by the model."""
    best = greedy_placements(log.predicted, log.allowed)
    return {
        "greedy": np.eye(len(PLACEMENTS))[best],
        "softmax": softmax_probabilities(np.log(log.predicted), temperature=0.3),
    }


def estimate_all(
    log: PlacementLog, policy: np.ndarray, predicted: np.ndarray
) -> dict[str, PolicyValue]:
    """Estimate a policy's value with every estimator."""
    rows = np.arange(len(log.clicks))
    logged = (log.clicks, log.propensities, policy[rows, log.placements])
    return {
        "ips": ips(*logged, clusters=log.pages),
        "snips": snips(*logged, clusters=log.pages),
        "doubly_robust": doubly_robust(
            *logged,
            predicted[rows, log.placements],
            (policy * predicted).sum(axis=1),
            clusters=log.pages,
        ),
    }


def true_value(log: PlacementLog, policy: np.ndarray) -> float:
    """Compute what the policy earns a row of this log, in expectation over its clicks."""
    return float((policy * log.truth).sum(axis=1).mean())
