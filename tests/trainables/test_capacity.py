"""Rows get the best options that the limits permit."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.capacity import BARRED, LARGEST_SCORE, assign_within

Problem = tuple[np.ndarray, np.ndarray]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    num_rows, num_options = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    # Few distinct scores, so that ties are common; BARRED among them.
    score = st.sampled_from([0, 1, 2, 3, 7, -5, LARGEST_SCORE, -LARGEST_SCORE, BARRED])
    scores = draw(st.lists(score, min_size=num_rows * num_options, max_size=num_rows * num_options))
    table = np.array(scores, dtype=np.int64).reshape(num_rows, num_options)
    table[(table == BARRED).all(axis=1), 0] = 1
    limits = draw(st.lists(st.integers(0, 5), min_size=num_options, max_size=num_options))
    return table, np.array(limits)


def best_sum(scores: np.ndarray, limits: np.ndarray) -> int | None:
    """Try every assignment; None if none keeps within the limits."""
    num_rows, num_options = scores.shape
    sums = [
        int(scores[np.arange(num_rows), list(options)].sum())
        for options in itertools.product(range(num_options), repeat=num_rows)
        if (scores[np.arange(num_rows), list(options)] != BARRED).all()
        and (np.bincount(options, minlength=num_options) <= limits).all()
    ]
    return max(sums, default=None)


@settings(deadline=None)
@given(problem=problems())
def test_no_assignment_within_the_limits_has_a_larger_sum(problem: Problem) -> None:
    scores, limits = problem
    best = best_sum(scores, limits)

    if best is None:
        with pytest.raises(ValueError, match="have no other allowed option with room"):
            assign_within(scores, limits)
    else:
        chosen = assign_within(scores, limits)
        gained = scores[np.arange(len(scores)), chosen]
        assert (np.bincount(chosen, minlength=len(limits)) <= limits).all()
        assert (gained != BARRED).all()
        assert gained.sum() == best


def test_a_large_problem_has_the_optimum_of_linear_programming(np_rng: np.random.Generator) -> None:
    from scipy.optimize import linear_sum_assignment

    scores = np_rng.integers(0, 1_000_000, (300, 6))
    limits = np.array([20, 100, 30, 90, 40, 60])

    chosen = assign_within(scores, limits)

    # One column for each row that an option may take.
    columns = np.repeat(np.arange(6), limits)
    rows, places = linear_sum_assignment(scores[:, columns], maximize=True)
    assert (np.bincount(chosen, minlength=6) <= limits).all()
    assert scores[np.arange(300), chosen].sum() == scores[rows, columns[places]].sum()
