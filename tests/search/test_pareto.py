"""Fronts are what nothing dominates, whatever the points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.pareto import best_first, crowding_distances, front, non_domination_ranks

values = st.integers(-3, 3).map(float)
points = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.tuples(*[values] * width), min_size=1, max_size=25)
)


def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True)) and one != other


@given(points)
def test_ranks_count_the_fronts_before(given_points: list[tuple[float, ...]]) -> None:
    ranks = non_domination_ranks(np.array(given_points))

    for place, point in enumerate(given_points):
        above = [
            int(ranks[other])
            for other, candidate in enumerate(given_points)
            if dominates(candidate, point)
        ]
        assert ranks[place] == max(above, default=-1) + 1


@given(points)
def test_the_order_goes_by_front_and_holds_every_point_once(
    given_points: list[tuple[float, ...]],
) -> None:
    array = np.array(given_points)

    order = best_first(array)

    assert sorted(order) == list(range(len(given_points)))
    ranks = non_domination_ranks(array)[order]
    assert (np.diff(ranks) >= 0).all()
    assert set(front(given_points)) == set(np.flatnonzero(non_domination_ranks(array) == 0))


def test_one_value_is_ordered_by_it() -> None:
    assert best_first(np.array([[0.2], [0.9], [0.5]])) == [1, 2, 0]


def test_ends_and_the_lonely_come_before_the_crowded() -> None:
    line = np.array([[0.0, 1.0], [0.1, 0.9], [0.15, 0.85], [0.6, 0.4], [1.0, 0.0]])

    distances = crowding_distances(line)

    assert np.isinf(distances[[0, 4]]).all()
    assert distances[3] > distances[1]
    assert best_first(line)[-1] in (1, 2)


def test_what_is_not_finite_is_the_worst() -> None:
    ranks = non_domination_ranks(np.array([[np.nan, np.nan], [0.1, -5.0], [-np.inf, -np.inf]]))

    assert ranks.tolist() == [1, 0, 1]


def test_no_points_have_no_front() -> None:
    assert front([]) == []


@pytest.mark.parametrize("count", [1, 2])
def test_few_points_are_all_ends(count: int) -> None:
    assert np.isinf(crowding_distances(np.arange(2 * count, dtype=float).reshape(count, 2))).all()
