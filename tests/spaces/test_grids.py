from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.grids import MOST_COMBINATIONS, grid_combinations, part_of
from spaces.space import Space
from tests.spaces.test_space import finite_spaces


@st.composite
def mixed_spaces(draw: st.DrawFn) -> Space:
    """Draw a finite space some of whose choices are grids."""
    raw = draw(finite_spaces()).to_dict()
    for name, parameter in raw.items():
        if "choice" in parameter and draw(st.booleans()):
            raw[name] = {("grid" if key == "choice" else key): v for key, v in parameter.items()}
    return Space.parse(raw)


def as_set(points: Any) -> set[tuple[tuple[str, Any], ...]]:  # noqa: ANN401 - any iterable
    return {tuple(point.items()) for point in points}


@given(mixed_spaces())
def test_parts_together_are_the_space(space: Space) -> None:
    combinations = grid_combinations(space)

    parts = [as_set(part_of(space, combination).enumerate()) for combination in combinations]

    assert set.union(*parts) == as_set(space.enumerate())
    assert all(parts)


@given(mixed_spaces())
def test_points_of_a_part_hold_the_values_of_its_combination(space: Space) -> None:
    for combination in grid_combinations(space):
        assert set(combination) <= set(space.grids())
        for point in part_of(space, combination).enumerate():
            for name in space.grids():
                assert name not in point or point[name] == combination[name]


@given(mixed_spaces())
def test_no_two_combinations_are_equal(space: Space) -> None:
    combinations = grid_combinations(space)

    assert len(as_set(combinations)) == len(combinations)


def test_combinations_that_cannot_come_about_are_left_out() -> None:
    space = Space.parse(
        {
            "method": {"grid": ["full", "lora"]},
            "inputs": {"choice": ["all"], "when": {"method": "lora"}},
            "lora_rank": {"grid": [2, 64], "when": {"inputs": "all"}},
            "batch_size": {"grid": [8, 128]},
            "field_units": {"int": [4, 8]},
            "constraints": ["batch_size * lora_rank <= 512", "lora_rank * field_units < 256"],
        }
    )

    assert [tuple(combination.values()) for combination in grid_combinations(space)] == [
        ("full", 8),
        ("full", 128),
        ("lora", 2, 8),
        ("lora", 2, 128),
    ]


def test_a_space_without_grids_is_its_only_part() -> None:
    space = Space.parse({"dropout": {"uniform": [0, 0.5]}})

    assert grid_combinations(space) == ({},)
    assert part_of(space, {}) is space


def test_more_combinations_than_trials_take_are_refused() -> None:
    space = Space.parse(
        {
            "batch_size": {"grid": list(range(1, 100))},
            "lora_rank": {"grid": list(range(1, 100))},
            "dropout": {"uniform": [0, 0.5]},
        }
    )

    with pytest.raises(
        ValueError, match=f"have 9,801 combinations, .* up to {MOST_COMBINATIONS:,}"
    ):
        grid_combinations(space)
