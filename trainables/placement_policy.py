"""Choose placements by their predicted click probabilities: the best within limits, or by chance.

A policy without chance (:func:`greedy_placements`) earns most by its model. One that is to be
evaluated or improved by its own log later needs some chance, and its probabilities in that log:
:func:`softmax_probabilities` or :func:`epsilon_greedy_probabilities`, and :func:`draw_placements`.
"""

import math

import numpy as np

from trainables.capacity import BARRED, LARGEST_SCORE, assign_within

TINY_SHARE = 1e-9
"""Rows that a share may be short of a whole number by, from rounding: 0.29 * 100 is 28.999..."""


def greedy_placements(
    scores: np.ndarray,
    allowed: np.ndarray | None = None,
    capacity: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Choose each row's best placement within limits.

    Without capacity each row gets its allowed placement of the highest score, the first of equal
    ones. With it the sum of scores over all rows is the largest that the capacities permit: exact
    but for scores being rounded to 2^-41 of the largest one.

    Args:
        scores: (n, k) predicted click probability of each placement, or any finite number.
        allowed: (n, k) bool, whether a row may have a placement; None: all may.
        capacity: (g,) largest share in [0, 1] of the rows in each group of placements; rounded down
            to whole rows.
        groups: (k,) group of each placement from 0, such as its ad format; None: each is one.

    Returns:
        int64 (n,), each row's placement.

    Raises:
        ValueError: if the arrays don't match, a score isn't finite, or no choice keeps the limits.
    """
    scores, allowed = _checked(scores, allowed)
    if capacity is None:
        if groups is not None:
            raise ValueError("groups says what capacity is shared by; give capacity too")
        best_placement: np.ndarray = np.where(allowed, scores, -np.inf).argmax(axis=1)
        return best_placement
    limits, members = _limits(capacity, groups, scores.shape)
    whole = _as_whole_numbers(scores, allowed)
    # Inside a group a row takes its best placement whatever the other rows do.
    best = np.stack([group[whole[:, group].argmax(axis=1)] for group in members], axis=1)
    group_of_row = assign_within(np.take_along_axis(whole, best, axis=1), limits)
    chosen: np.ndarray = np.take_along_axis(best, group_of_row[:, None], axis=1)[:, 0]
    return chosen


def equal_capacity(
    max_share: float | None, num_rows: int, num_placements: int
) -> np.ndarray | None:
    """Return the capacity of placements that may each take a share of the rows.

    Args:
        max_share: Largest share, rounded up to whole rows; None: no limit.
        num_rows: Rows.
        num_placements: Placements.

    Raises:
        ValueError: if they could not take all rows together.
    """
    if max_share is None or not num_rows:
        return None
    if max_share * num_placements < 1 - TINY_SHARE:
        raise ValueError(
            f"{num_placements} placements of at most {max_share:g} of the rows each can't take all "
            f"rows; allow at least {1 / num_placements:.3g}"
        )
    rows = min(num_rows, math.ceil(max_share * num_rows - TINY_SHARE))
    return np.full(num_placements, rows / num_rows)


def softmax_probabilities(
    scores: np.ndarray, allowed: np.ndarray | None = None, *, temperature: float
) -> np.ndarray:
    """Probability of each placement, proportional to ``exp(score / temperature)``.

    Args:
        scores: (n, k) finite scores.
        allowed: (n, k) bool; None: all are.
        temperature: In units of the scores; towards 0 the best is chosen, far above their
            differences all are alike.

    Returns:
        float64 (n, k), each row's sum 1, 0 where it isn't allowed.

    Raises:
        ValueError: as :func:`greedy_placements`, or if the temperature isn't above 0.
    """
    if not (temperature > 0 and np.isfinite(temperature)):
        raise ValueError(
            f"temperature must be above 0 and finite, got {temperature}; use greedy_placements to "
            "always choose the best"
        )
    scores, allowed = _checked(scores, allowed)
    masked = np.where(allowed, scores, -np.inf)
    with np.errstate(over="ignore"):
        weights = np.exp((masked - masked.max(axis=1, keepdims=True)) / temperature)
    probabilities: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return probabilities


def epsilon_greedy_probabilities(
    chosen: np.ndarray, allowed: np.ndarray, *, epsilon: float
) -> np.ndarray:
    """Probability of each placement if a share ``epsilon`` of the rows is placed at random.

    Args:
        chosen: int64 (n,), each row's placement otherwise, as from :func:`greedy_placements`. What
            is drawn at random can exceed a capacity that the choice kept.
        allowed: (n, k) bool; the random placements are equally likely among them.
        epsilon: In [0, 1].

    Returns:
        float64 (n, k), each row's sum 1.

    Raises:
        ValueError: if epsilon or a choice is out of range, or a row has no allowed placement.
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon must be in [0, 1], got {epsilon}; it is a share of the rows")
    _, allowed = _checked(np.zeros(np.shape(allowed)), allowed)
    rows = np.arange(len(allowed))
    chosen = np.asarray(chosen)
    if chosen.shape != (len(allowed),) or not _are_placements(chosen, allowed.shape[1]):
        raise ValueError(
            f"chosen must hold one placement from 0 to {allowed.shape[1] - 1} for each of "
            f"{len(allowed)} rows"
        )
    if not allowed[rows, chosen].all():
        row = int(np.argmin(allowed[rows, chosen]))
        raise ValueError(f"row {row} is placed in {chosen[row]}, which allowed says it may not be")
    probabilities: np.ndarray = epsilon * allowed / allowed.sum(axis=1, keepdims=True)
    probabilities[rows, chosen] += 1 - epsilon
    return probabilities


def draw_placements(
    probabilities: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw each row's placement, and say with which probability: what a log has to record.

    Args:
        probabilities: (n, k), each row's sum 1.
        rng: Draws.

    Returns:
        int64 (n,) placements and float64 (n,) their propensities, above 0.

    Raises:
        ValueError: if a row isn't a distribution.
    """
    probabilities, _ = _checked(probabilities, None)
    sums = probabilities.sum(axis=1)
    wrong = (np.abs(sums - 1) > 1e-6) | (probabilities < 0).any(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"the probabilities of row {row} sum to {sums[row]:g} and the lowest is "
            f"{probabilities[row].min():g}; expected a sum of 1 and none below 0"
        )
    reached = probabilities.cumsum(axis=1)
    # In [0, last sum), which rounding may leave below 1: a placement of probability 0 is never hit.
    drawn = rng.random(len(reached)) * reached[:, -1]
    placements = (reached <= drawn[:, None]).sum(axis=1)
    return placements, probabilities[np.arange(len(reached)), placements]


def _checked(scores: np.ndarray, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(
            f"scores must have shape (rows, placements), neither of them 0, got {scores.shape}"
        )
    allowed = np.ones(scores.shape, dtype=bool) if allowed is None else np.asarray(allowed)
    if allowed.shape != scores.shape or allowed.dtype != bool:
        raise ValueError(
            f"allowed must be bool of shape {scores.shape} like the scores, got {allowed.dtype} of "
            f"{allowed.shape}"
        )
    if not allowed.any(axis=1).all():
        row = int(np.argmin(allowed.any(axis=1)))
        raise ValueError(f"row {row} has no allowed placement; allow at least one")
    wrong = allowed & ~np.isfinite(scores)
    if wrong.any():
        row, placement = map(int, np.argwhere(wrong)[0])
        raise ValueError(
            f"the score of row {row} and placement {placement} is {scores[row, placement]}, "
            "expected a finite number; a diverged model predicts NaN"
        )
    return scores, allowed


def _are_placements(values: np.ndarray, num_placements: int) -> bool:
    whole = np.issubdtype(values.dtype, np.integer)
    return bool(whole and ((values >= 0) & (values < num_placements)).all())


def _limits(
    capacity: np.ndarray, groups: np.ndarray | None, shape: tuple[int, ...]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return int64 (g,), the rows that each group may take, and each group's placements."""
    num_rows, num_placements = shape
    shares = np.asarray(capacity, np.float64)
    codes = np.arange(num_placements) if groups is None else np.asarray(groups)
    if shares.ndim != 1 or codes.shape != (num_placements,):
        raise ValueError(
            f"capacity must have shape (groups,) and groups ({num_placements},), one entry a "
            f"placement, got {shares.shape} and {codes.shape}"
        )
    if not _are_placements(codes, len(shares)) or len(np.unique(codes)) < len(shares):
        raise ValueError(
            f"capacity has {len(shares)} entries, so the groups must be numbered from 0 to "
            f"{len(shares) - 1}, each with a placement; got {np.unique(codes).tolist()}"
        )
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"capacity must hold shares in [0, 1], got {shares.tolist()}")
    limits = np.floor(shares * num_rows + TINY_SHARE).astype(np.int64)
    return limits, [np.flatnonzero(codes == group) for group in range(len(shares))]


def _as_whole_numbers(scores: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    largest = np.abs(scores[allowed]).max()
    # Divided first: the largest float times 2^40 is no float.
    shares = np.where(allowed, scores, 0.0) / (largest if largest > 0 else 1.0)
    return np.where(allowed, np.rint(shares * LARGEST_SCORE).astype(np.int64), BARRED)
