"""Points compared in several values at once: which are dominated, and which stand alone."""

from collections.abc import Sequence

import numpy as np


def non_domination_ranks(points: np.ndarray) -> np.ndarray:
    """Rank points by how many fronts lie before theirs.

    A point dominates another if it is at least as good in every value and better in one. The front
    is what nothing dominates; without it the next one is, and so on (Deb et al. 2002, section
    III.A, https://doi.org/10.1109/4235.996017).

    Args:
        points: (n, values), higher is better; what isn't finite is the worst.

    Returns:
        int64 (n,), 0 for the front.
    """
    points = np.where(np.isfinite(points), points, -np.inf)
    at_least = np.ones((len(points), len(points)), dtype=bool)
    better = np.zeros_like(at_least)
    for values in points.T:
        at_least &= values[:, None] >= values[None, :]
        better |= values[:, None] > values[None, :]
    dominates = at_least & better
    num_above = dominates.sum(axis=0)
    ranks = np.full(len(points), -1, dtype=np.int64)
    rank = 0
    while (ranks < 0).any():
        front = np.flatnonzero((num_above == 0) & (ranks < 0))
        ranks[front] = rank
        num_above -= dominates[front].sum(axis=0)
        rank += 1
    return ranks


def crowding_distances(points: np.ndarray) -> np.ndarray:
    """Measure how far each point's neighbours are apart, summed over the values.

    Ends are infinitely far (Deb et al. 2002, section III.B): what nothing else is like is kept.

    Args:
        points: (n, values) of one front, finite.

    Returns:
        float64 (n,).
    """
    distances = np.zeros(len(points))
    for values in points.T:
        order = np.argsort(values, kind="stable")
        span = values[order[-1]] - values[order[0]]
        distances[order[[0, -1]]] = np.inf
        if span > 0 and np.isfinite(span):
            gaps = (values[order[2:]] - values[order[:-2]]) / span
            distances[order[1:-1]] += gaps
    return distances


def best_first(points: np.ndarray) -> list[int]:
    """Order points: by their front, within one the less crowded first, then as given."""
    points = np.where(np.isfinite(points), points, np.finfo(np.float64).min)
    ranks = non_domination_ranks(points)
    distances = np.zeros(len(points))
    for rank in np.unique(ranks):
        inside = ranks == rank
        distances[inside] = crowding_distances(points[inside])
    return [int(place) for place in np.lexsort((np.arange(len(points)), -distances, ranks))]


def front(points: Sequence[Sequence[float]]) -> list[int]:
    """Return the places of the points that nothing dominates, as given."""
    if not points:
        return []
    ranks = non_domination_ranks(np.array(points, dtype=np.float64))
    return [int(place) for place in np.flatnonzero(ranks == 0)]
