import json
import math
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.algorithms import ALGORITHMS, Algorithm, effective_key
from search.study_config import AlgorithmName
from spaces.space import Space, load_preset
from spaces.trial_config import TrialConfig

FINITE = Space.parse(
    {
        "method": {"choice": ["full", "lora"]},
        "lora_rank": {"choice": [2, 4, 8], "when": {"method": "lora"}},
        "batch_size": {"int": [8, 16], "step": 8},
    }
)
CONTINUOUS = load_preset("ctr")
every_algorithm = pytest.mark.parametrize("name", list(ALGORITHMS))
learning_or_not = pytest.mark.parametrize("name", [n for n in ALGORITHMS if n != "grid"])


def space_for(name: AlgorithmName) -> Space:
    return FINITE if name == "grid" else CONTINUOUS


def build(name: AlgorithmName, space: Space | None = None, seed: int = 0) -> Algorithm:
    return ALGORITHMS[name](space or space_for(name), seed, 12)


def quality(point: dict[str, Any]) -> float:
    """Best at a learning rate of 1e-4, whatever the rest."""
    return -abs(math.log10(point.get("learning_rate", 1e-3)) + 4)


def play(algorithm: Algorithm, numbers: range, outcome: Callable[[int], str]) -> list[Any]:
    """Ask for trials one by one, end each as told, and return the points."""
    points = []
    for number in numbers:
        point = algorithm.ask(number)
        points.append(point)
        if point is None:
            break
        ended: Any = outcome(number)
        if ended in ("completed", "stopped"):
            algorithm.tell_report(number, 1, quality(point))
            algorithm.tell(number, ended, quality(point))
        elif ended == "failed":
            algorithm.tell(number, "failed", None)
    return points


def mixed(number: int) -> str:
    return ("completed", "stopped", "failed", "running")[number % 4]


def test_config_and_registry_name_the_same_algorithms() -> None:
    assert set(get_args(AlgorithmName)) == set(ALGORITHMS)


@every_algorithm
def test_every_point_makes_a_trial_and_survives_json(name: AlgorithmName) -> None:
    for point in play(build(name), range(8), mixed):
        TrialConfig(**point)
        assert json.loads(json.dumps(point)) == point


@every_algorithm
def test_equal_seeds_and_news_give_equal_points(name: AlgorithmName) -> None:
    assert play(build(name), range(8), mixed) == play(build(name), range(8), mixed)


@learning_or_not
def test_other_seed_gives_other_points(name: AlgorithmName) -> None:
    assert play(build(name), range(4), mixed) != play(build(name, seed=1), range(4), mixed)


@every_algorithm
def test_no_two_trials_train_the_same_model(name: AlgorithmName) -> None:
    points = play(build(name, FINITE), range(20), mixed)

    tried = [effective_key(point) for point in points if point is not None]
    assert len(tried) == len(set(tried)) == FINITE.count() == 8


@every_algorithm
def test_every_kind_of_value_within_constraints_is_tried_once(name: AlgorithmName) -> None:
    space = Space.parse(
        {
            "lora_rank": {"ordinal": [2, 8, 32]},
            "batch_size": {"log_int": [8, 10]},
            "dropout": {"uniform": [0.0, 0.3], "step": 0.15},
            "constraints": ["lora_rank * batch_size < 256"],
        }
    )

    points = play(build(name, space), range(30), mixed)

    tried = [tuple(point.values()) for point in points if point is not None]
    assert sorted(tried) == sorted(tuple(point.values()) for point in space.enumerate())
    assert len(tried) == space.count() == 18


@every_algorithm
def test_a_point_to_start_from_is_not_tried_again(name: AlgorithmName) -> None:
    algorithm = build(name, FINITE)
    start = list(FINITE.enumerate())[5]
    algorithm.adopt(0, start)

    points = [point for point in play(algorithm, range(1, 20), mixed) if point is not None]

    assert len(points) == 7
    assert start not in points


@every_algorithm
def test_exhausted_space_ends_the_search(name: AlgorithmName) -> None:
    algorithm = build(name, FINITE)
    play(algorithm, range(8), mixed)

    assert algorithm.ask(8) is None
    assert algorithm.ask(9) is None


@every_algorithm
def test_restart_that_is_told_the_same_continues_alike(name: AlgorithmName) -> None:
    whole = build(name)
    points = play(whole, range(11), mixed)
    again = build(name)
    for number, point in enumerate(points[:8]):
        again.adopt(number, point)
        outcome: Any = mixed(number)
        if outcome in ("completed", "stopped"):
            again.tell_report(number, 1, quality(point))
            again.tell(number, outcome, quality(point))
        elif outcome == "failed":
            again.tell(number, "failed", None)

    assert play(again, range(8, 11), mixed) == points[8:]


@every_algorithm
@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, None])
def test_score_that_is_no_number_breaks_nothing(name: AlgorithmName, score: float | None) -> None:
    algorithm = build(name, FINITE if name == "grid" else CONTINUOUS)
    for number in range(8):
        assert algorithm.ask(number) is not None
        if score is not None:
            algorithm.tell_report(number, 1, score)
        algorithm.tell(number, "completed", score)


@every_algorithm
def test_many_trials_at_a_time_get_different_points(name: AlgorithmName) -> None:
    points = play(build(name), range(8), lambda _number: "running")

    assert len({effective_key(point) for point in points}) == 8


def test_settings_that_change_nothing_are_not_tried_twice() -> None:
    space = Space.parse({"method": {"choice": ["full", "lora"]}, "lora_rank": {"choice": [2, 4]}})

    for name in ALGORITHMS:
        points = play(build(name, space), range(9), mixed)
        assert [point for point in points if point] == points[:3]
        assert points[3] is None


def test_constant_space_has_one_point() -> None:
    space = Space.parse({"dropout": 0.1})

    for name in ALGORITHMS:
        assert play(build(name, space), range(3), mixed) == [{"dropout": 0.1}, None]


@settings(max_examples=20)
@given(st.integers(min_value=-(2**40), max_value=2**40), st.integers(0, 10**6))
def test_random_takes_any_seed_and_number(seed: int, number: int) -> None:
    assert ALGORITHMS["random"](CONTINUOUS, seed, 3).ask(number) is not None


def test_tpe_gathers_around_what_was_good() -> None:
    space = Space.parse(
        {"learning_rate": {"log_uniform": [1e-6, 1e-1]}, "batch_size": {"choice": [8, 16]}}
    )

    def last_ten(name: AlgorithmName, seed: int) -> float:
        points = play(ALGORITHMS[name](space, seed, 30), range(30), lambda _number: "completed")
        return sum(quality(point) for point in points[20:]) / 10

    gains = [last_ten("tpe", seed) - last_ten("random", seed) for seed in range(4)]

    assert sum(gains) / 4 > 0.3


def test_tpe_learns_from_stopped_trials_too() -> None:
    space = Space.parse({"learning_rate": {"log_uniform": [1e-6, 1e-1]}})
    tpe = ALGORITHMS["tpe"](space, 0, 30)
    points = play(tpe, range(30), lambda number: "completed" if number % 3 else "stopped")

    assert sum(quality(point) for point in points[20:]) / 10 > -1.0


def test_tpe_keeps_away_from_trials_that_still_run() -> None:
    space = Space.parse({"learning_rate": {"log_uniform": [1e-6, 1e-1]}})
    tpe = ALGORITHMS["tpe"](space, 0, 30)
    play(tpe, range(12), lambda _number: "completed")

    rates = [tpe.ask(number)["learning_rate"] for number in range(12, 18)]  # type: ignore[index]

    assert len(set(rates)) == 6
