"""Policies choose what the model likes best, within limits, and know their own probabilities."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trainables.placement_policy import (
    draw_placements,
    epsilon_greedy_probabilities,
    equal_capacity,
    greedy_placements,
    softmax_probabilities,
)

SCORES = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-1e6, 1e6),
)


def test_without_limits_each_row_gets_its_best_placement() -> None:
    scores = np.array([[0.1, 0.3, 0.2], [0.5, 0.4, 0.5]])

    assert greedy_placements(scores).tolist() == [1, 0]


def test_a_placement_that_is_not_allowed_is_never_chosen() -> None:
    scores = np.array([[0.1, np.nan, 0.2], [0.5, 0.4, 0.3]])
    allowed = np.array([[True, False, True], [False, True, True]])

    for capacity in (None, np.ones(3)):
        assert greedy_placements(scores, allowed, capacity).tolist() == [2, 1]


def test_scarce_placements_go_to_the_rows_that_lose_most_without_them() -> None:
    scores = np.array([[0.30, 0.29], [0.20, 0.05], [0.25, 0.20], [0.12, 0.10]])

    chosen = greedy_placements(scores, capacity=np.array([0.5, 1.0]))

    assert chosen.tolist() == [1, 0, 0, 1]


def test_capacity_of_a_group_bounds_its_placements_together() -> None:
    # Two positions of a banner, two of a listing.
    scores = np.array([[0.4, 0.3, 0.2, 0.1], [0.3, 0.5, 0.1, 0.2], [0.4, 0.1, 0.1, 0.35]])

    chosen = greedy_placements(
        scores, capacity=np.array([1 / 3, 1.0]), groups=np.array([0, 0, 1, 1])
    )

    assert chosen.tolist() == [2, 1, 3]


def test_a_share_of_whole_rows_is_not_lost_to_rounding() -> None:
    chosen = greedy_placements(np.tile([1.0, 0.0], (100, 1)), capacity=np.array([0.29, 0.71]))

    assert np.bincount(chosen).tolist() == [29, 71]


@settings(deadline=None)
@given(scores=SCORES)
def test_capacity_for_all_rows_changes_nothing_but_ties(scores: np.ndarray) -> None:
    rows = np.arange(len(scores))

    free = scores[rows, greedy_placements(scores)]
    bounded = scores[rows, greedy_placements(scores, capacity=np.ones(scores.shape[1]))]

    assert bounded == pytest.approx(free, abs=np.abs(scores).max() * 2.0**-40)


@settings(deadline=None)
@given(scores=SCORES, temperature=st.floats(1e-3, 1e6))
def test_softmax_gives_distributions_that_follow_the_scores(
    scores: np.ndarray, temperature: float
) -> None:
    probabilities = softmax_probabilities(scores, temperature=temperature)

    assert probabilities.sum(axis=1) == pytest.approx(np.ones(len(scores)))
    order = np.argsort(scores, axis=1)
    assert (np.diff(np.take_along_axis(probabilities, order, axis=1), axis=1) >= 0).all()


def test_softmax_of_known_scores() -> None:
    allowed = np.array([[True, True, False]])

    probabilities = softmax_probabilities(np.log([[1.0, 4.0, 9.0]]), allowed, temperature=0.5)

    assert probabilities[0] == pytest.approx([1 / 17, 16 / 17, 0])


def test_epsilon_is_shared_by_all_allowed_placements() -> None:
    allowed = np.array([[True, True, False], [True, True, True]])

    probabilities = epsilon_greedy_probabilities(np.array([1, 0]), allowed, epsilon=0.3)

    assert probabilities == pytest.approx(np.array([[0.15, 0.85, 0], [0.8, 0.1, 0.1]]))


def test_placements_are_drawn_as_often_as_their_propensities_say(
    np_rng: np.random.Generator,
) -> None:
    distribution = np.array([0.0, 0.5, 0.3, 0.2, 0.0])

    placements, propensities = draw_placements(np.tile(distribution, (20_000, 1)), np_rng)

    assert propensities == pytest.approx(distribution[placements])
    shares = np.bincount(placements, minlength=5) / 20_000
    assert shares == pytest.approx(distribution, abs=4 * 0.5 / 20_000**0.5)
    assert shares[[0, 4]].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": np.zeros(3)}, r"scores must have shape \(rows, placements\).*got \(3,\)"),
        ({"scores": np.zeros((0, 3))}, "neither of them 0"),
        (
            {"scores": np.array([[0.1, np.nan]])},
            "score of row 0 and placement 1 is nan, expected a finite number",
        ),
        (
            {"scores": np.zeros((2, 2)), "allowed": np.array([[True, True], [False, False]])},
            "row 1 has no allowed placement",
        ),
        (
            {"scores": np.zeros((2, 2)), "allowed": np.ones((2, 2))},
            "allowed must be bool of shape",
        ),
        (
            {"scores": np.zeros((4, 2)), "capacity": np.array([0.5, 0.25])},
            "can't hold 4 rows",
        ),
        (
            {"scores": np.zeros((4, 2)), "capacity": np.array([0.5, 1.2])},
            r"capacity must hold shares in \[0, 1\], got \[0.5, 1.2\]",
        ),
        (
            {"scores": np.zeros((4, 2)), "capacity": np.array([1.0])},
            "groups must be numbered from 0 to 0",
        ),
        (
            {"scores": np.zeros((4, 2)), "capacity": np.ones((1, 2))},
            r"capacity must have shape \(groups,\)",
        ),
        (
            {"scores": np.zeros((4, 2)), "groups": np.array([0, 0])},
            "give capacity too",
        ),
    ],
)
def test_limits_that_cannot_be_are_refused(arguments: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        greedy_placements(**arguments)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be above 0 and finite"):
        softmax_probabilities(np.zeros((1, 2)), temperature=temperature)


@pytest.mark.parametrize(
    ("chosen", "epsilon", "message"),
    [
        ([0, 1], 1.5, r"epsilon must be in \[0, 1\], got 1.5"),
        ([0, 2], 0.1, "one placement from 0 to 1 for each of 2 rows"),
        ([0], 0.1, "one placement from 0 to 1 for each of 2 rows"),
        ([0, 0], 0.1, "row 1 is placed in 0, which allowed says it may not be"),
    ],
)
def test_choices_that_cannot_be_explored_are_refused(
    chosen: list[int], epsilon: float, message: str
) -> None:
    allowed = np.array([[True, True], [False, True]])

    with pytest.raises(ValueError, match=message):
        epsilon_greedy_probabilities(np.array(chosen), allowed, epsilon=epsilon)


@pytest.mark.parametrize("row", [[0.5, 0.4], [1.5, -0.5]])
def test_what_is_no_distribution_is_not_drawn_from(
    row: list[float], np_rng: np.random.Generator
) -> None:
    with pytest.raises(ValueError, match="the probabilities of row 1 sum to"):
        draw_placements(np.array([[0.5, 0.5], row]), np_rng)


@pytest.mark.parametrize(("share", "num_rows"), [(0.5, 101), (1 / 3, 100), (0.4, 7), (1.0, 3)])
def test_equal_shares_take_all_rows(share: float, num_rows: int) -> None:
    num_placements = math.ceil(1 / share - 1e-9)
    scores = np.tile(np.arange(num_placements, dtype=float), (num_rows, 1))

    capacity = equal_capacity(share, num_rows, num_placements)
    chosen = greedy_placements(scores, capacity=capacity)

    assert np.bincount(chosen).max() <= math.ceil(share * num_rows)


def test_shares_that_leave_rows_over_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 placements of at most 0\.4 .* allow at least 0\.5"):
        equal_capacity(0.4, 10, 2)
