"""Grids beside draws: which combination each trial has, and what its other values are."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.algorithms import ALGORITHMS, Algorithm, Point, effective_key
from search.study_config import AlgorithmName
from spaces.grids import grid_combinations
from spaces.space import Space

SPACE = Space.parse(
    {
        "batch_size": {"grid": [16, 32, 64]},
        "learning_rate": {"log_uniform": [1e-5, 1e-2]},
        "lora_rank": {"grid": [4, 8]},
        "dropout": {"uniform": [0.0, 0.4]},
    }
)
FINITE = Space.parse(
    {
        "batch_size": {"grid": [16, 32, 64]},
        "lora_rank": {"choice": [2, 4, 8, 16]},
        "constraints": ["batch_size * lora_rank < 512", "batch_size * lora_rank != 64"],
    }
)
in_turn = pytest.mark.parametrize("name", ["random", "sobol"])


def build(name: AlgorithmName, space: Space = SPACE, seed: int = 0) -> Algorithm:
    return ALGORITHMS[name](space, seed, 24)


def combination(point: Point | None, space: Space = SPACE) -> tuple[Any, ...]:
    assert point is not None
    return tuple(point[name] for name in space.grids())


@in_turn
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), num_given=st.integers(0, 8))
def test_any_run_of_trials_has_each_combination_once(
    name: AlgorithmName, seed: int, num_given: int
) -> None:
    algorithm = build(name, seed=seed)
    for number in range(num_given):
        point = {"batch_size": 16, "learning_rate": 1e-3, "lora_rank": 4, "dropout": number / 30}
        algorithm.adopt(number, point)
    found = [combination(algorithm.ask(number)) for number in range(num_given, num_given + 18)]

    listed = [tuple(values.values()) for values in grid_combinations(SPACE)]
    assert len(listed) == 6
    for start in range(13):
        assert sorted(found[start : start + 6]) == sorted(listed)
    turn = num_given % 6
    assert found[:6] == listed[turn:] + listed[:turn]


@in_turn
@settings(max_examples=10)
@given(
    seed=st.integers(0, 10**6),
    num_given=st.integers(0, 5),
    num_before=st.integers(0, 20),
    space=st.sampled_from([SPACE, FINITE]),
)
def test_a_resumed_search_asks_the_same_points(
    name: AlgorithmName, seed: int, num_given: int, num_before: int, space: Space
) -> None:
    start = ALGORITHMS["random"](space, seed + 1, 24)
    points: dict[int, Point] = {}
    for number in range(num_given):
        points[number] = start.ask(number) or {}
    whole = build(name, space, seed)
    for number, point in points.items():
        whole.adopt(number, point)
    asked = [whole.ask(number) for number in range(num_given, 30)]

    again = build(name, space, seed)
    known = [*points.values(), *(p for p in asked[:num_before] if p is not None)]
    for number, point in enumerate(known):
        again.adopt(number, point)
    resumed = [again.ask(number) for number in range(len(known), 30)]

    assert resumed == asked[len(known) - num_given :]
    keys = [effective_key(p) for p in [*points.values(), *asked] if p is not None]
    assert len(set(keys)) == len(keys)


@in_turn
def test_other_values_are_drawn_anew_for_every_trial(name: AlgorithmName) -> None:
    algorithm = build(name)
    points = [algorithm.ask(number) or {} for number in range(24)]

    assert len({point["learning_rate"] for point in points}) == 24
    assert len({point["dropout"] for point in points}) == 24


@pytest.mark.parametrize("seed", range(3))
def test_sobol_spreads_the_draws_of_each_combination_evenly(seed: int) -> None:
    algorithm = build("sobol", seed=seed)
    points = [algorithm.ask(number) or {} for number in range(6 * 16)]

    for values in grid_combinations(SPACE):
        own = [p for p in points if combination(p) == tuple(values.values())]
        parts = [int(float(point["dropout"]) / 0.4 * 16) for point in own]
        assert sorted(parts) == list(range(16))


@in_turn
def test_a_finite_space_is_tried_in_full_and_combinations_that_are_used_up_give_their_turn(
    name: AlgorithmName,
) -> None:
    algorithm = build(name, FINITE)
    points = [algorithm.ask(number) for number in range(12)]
    tried = [point for point in points if point is not None]

    assert sorted(tuple(p.values()) for p in tried) == sorted(
        tuple(p.values()) for p in FINITE.enumerate()
    )
    sizes = [point["batch_size"] for point in tried]
    assert sizes == [16, 32, 64, 16, 32, 64, 16]
    assert points[len(tried) :] == [None] * (12 - len(tried))


@in_turn
def test_a_grid_that_waits_for_a_draw_is_left_out_where_it_does_not_fit(
    name: AlgorithmName,
) -> None:
    space = Space.parse(
        {
            "method": {"choice": ["full", "lora"]},
            "lora_rank": {"grid": [2, 4, 8], "when": {"method": "lora"}},
            "dropout": {"uniform": [0.0, 0.5]},
        }
    )
    algorithm = build(name, space)

    for number in range(30):
        point = algorithm.ask(number) or {}
        if point["method"] == "lora":
            assert point["lora_rank"] == (2, 4, 8)[number % 3]
        else:
            assert "lora_rank" not in point


@in_turn
def test_draws_keep_to_a_constraint_with_the_combination_of_their_turn(
    name: AlgorithmName,
) -> None:
    space = Space.parse(
        {
            "batch_size": {"grid": [16, 32, 64, 128]},
            "lora_rank": {"int": [4, 512]},
            "dropout": {"uniform": [0.0, 0.5]},
            "constraints": ["batch_size * lora_rank <= 480"],
        }
    )
    algorithm = build(name, space)
    points = [algorithm.ask(number) or {} for number in range(12)]

    # 128 times 4 is too much for any rank.
    assert [point["batch_size"] for point in points] == [16, 32, 64] * 4
    assert all(space.allows(point) for point in points)


def test_grid_goes_through_it_as_through_a_choice() -> None:
    raw = {"batch_size": {"grid": [16, 32]}, "lora_rank": {"choice": [4, 8]}}
    algorithm, choice = (
        build("grid", Space.parse({**raw, "batch_size": {kind: [16, 32]}}))
        for kind in ("grid", "choice")
    )

    assert [algorithm.ask(n) for n in range(5)] == [choice.ask(n) for n in range(5)]


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes", "nsga2"])
def test_what_learns_refuses_a_grid(name: AlgorithmName) -> None:
    with pytest.raises(ValueError, match=r"batch_size, lora_rank .* write choice instead of grid"):
        build(name)
