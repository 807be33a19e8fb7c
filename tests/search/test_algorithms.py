import math
from collections import Counter
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.algorithms import ALGORITHMS, Algorithm, effective_key
from search.algorithms.learning import Told, count_as_completed
from search.study_config import AlgorithmName
from spaces.space import Space, load_preset

FINITE = Space.parse(
    {
        "method": {"choice": ["full", "lora"]},
        "lora_rank": {"choice": [2, 4, 8], "when": {"method": "lora"}},
        "batch_size": {"int": [8, 16], "step": 8},
    }
)
CONTINUOUS = load_preset("ctr")
every_algorithm = pytest.mark.parametrize("name", list(ALGORITHMS))
# CMA-ES needs a number, and these spaces are choices.
WITHOUT_NUMBERS = [name for name in ALGORITHMS if name != "cmaes"]


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


@pytest.mark.parametrize(
    "name",
    [
        # A Gaussian process takes a second for a point.
        pytest.param(name, marks=[pytest.mark.slow] if name == "gp" else [])
        for name in ALGORITHMS
    ],
)
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


@pytest.mark.parametrize("name", WITHOUT_NUMBERS)
def test_a_point_to_start_from_is_not_tried_again(name: AlgorithmName) -> None:
    algorithm = build(name, FINITE)
    start = list(FINITE.enumerate())[5]
    algorithm.adopt(0, start)

    points = [point for point in play(algorithm, range(1, 20), mixed) if point is not None]

    assert len(points) == 7
    assert start not in points


@every_algorithm
def test_many_trials_at_a_time_get_different_points(name: AlgorithmName) -> None:
    points = play(build(name), range(8), lambda _number: "running")

    assert len({effective_key(point) for point in points}) == 8


def test_settings_that_change_nothing_are_not_tried_twice() -> None:
    space = Space.parse({"method": {"choice": ["full", "lora"]}, "lora_rank": {"choice": [2, 4]}})

    for name in WITHOUT_NUMBERS:
        points = play(build(name, space), range(9), mixed)
        assert [point for point in points if point] == points[:3]
        assert points[3] is None


def test_constant_space_has_one_point() -> None:
    space = Space.parse({"dropout": 0.1})

    for name in WITHOUT_NUMBERS:
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


def test_sobol_spreads_its_points_evenly() -> None:
    space = Space.parse(
        {
            "learning_rate": {"log_uniform": [1e-6, 1e-2]},
            "batch_size": {"int": [8, 32], "step": 8},
            "inputs": {"choice": ["all", "text"]},
        }
    )
    points = play(ALGORITHMS["sobol"](space, 0, 64), range(64), lambda _number: "running")

    parts = [int((math.log10(point["learning_rate"]) + 6) / 4 * 64) for point in points]
    assert sorted(parts) == list(range(64))
    assert Counter(point["batch_size"] for point in points) == dict.fromkeys((8, 16, 24, 32), 16)
    assert Counter(point["inputs"] for point in points) == {"all": 32, "text": 32}


def test_sobol_spreads_a_conditional_parameter_evenly_where_it_is_active() -> None:
    space = Space.parse(
        {
            "method": {"choice": ["full", "lora"]},
            "lora_rank": {"int": [1, 4], "when": {"method": "lora"}},
            "learning_rate": {"log_uniform": [1e-6, 1e-2]},
        }
    )
    points = play(ALGORITHMS["sobol"](space, 0, 64), range(64), lambda _number: "running")

    ranks = Counter(point["lora_rank"] for point in points if point["method"] == "lora")
    assert ranks == dict.fromkeys((1, 2, 3, 4), 8)


def test_cmaes_narrows_to_what_was_good() -> None:
    space = Space.parse(
        {
            "learning_rate": {"log_uniform": [1e-6, 1e-1]},
            "dropout": {"uniform": [0.0, 0.5]},
            "method": {"choice": ["full", "lora"]},
        }
    )
    points = play(ALGORITHMS["cmaes"](space, 0, 60), range(60), lambda _number: "completed")

    first, last = map(quality, points[:10]), map(quality, points[50:])
    assert sum(last) > sum(first) + 5


def test_cmaes_needs_a_number_that_every_trial_has() -> None:
    space = Space.parse({"method": {"choice": ["full", "lora"]}})

    with pytest.raises(ValueError, match="needs a number that every trial has"):
        ALGORITHMS["cmaes"](space, 0, 10)


def test_trials_that_failed_or_were_stopped_count_for_methods_that_only_know_scores() -> None:
    point = {"dropout": 0.1}
    history = {
        0: Told(point=point, outcome="completed", score=0.7),
        1: Told(point=point, outcome="stopped", score=0.6),
        2: Told(point=point, outcome="failed", score=0.9),
        3: Told(point=point, outcome="completed", score=math.nan),
        4: Told(point=point),
    }

    judged = count_as_completed(history)

    assert [told.score for told in judged.values()] == [0.7, 0.6, 0.6, 0.6, None]
    assert [told.outcome for told in judged.values()] == ["completed"] * 4 + ["running"]


def test_sobol_goes_on_all_over_a_space_that_constraints_leave_little_of() -> None:
    space = Space.parse(
        {
            "batch_size": {"int": [1, 500]},
            "field_units": {"int": [1, 500]},
            "lora_rank": {"int": [1, 500]},
            "constraints": ["batch_size * field_units <= 700"],
        }
    )

    points = play(build("sobol", space), range(40), mixed)

    assert len({point["batch_size"] for point in points if point is not None}) > 10


EXPECTING = {
    "learning_rate": {"log_uniform": [1e-6, 1.0], "prior": 1e-5, "prior_confidence": "high"},
    "lora_rank": {"log_int": [1, 512], "prior": 256, "prior_confidence": "high"},
    "method": {"choice": ["full", "lora"], "prior": "lora", "prior_confidence": "high"},
    "dropout": {"uniform": [0.0, 0.8], "prior": 0.7, "when": {"method": "lora"}},
}


@pytest.mark.parametrize("name", ["random", "sobol", "tpe", "gp", "cmaes", "nsga2"])
def test_priors_decide_where_the_first_points_lie(name: AlgorithmName) -> None:
    space = Space.parse(EXPECTING)
    plain = Space.parse(
        {
            key: {k: v for k, v in raw.items() if not k.startswith("prior")}
            for key, raw in EXPECTING.items()
        }
    )

    def first_points(of: Space) -> list[dict[str, Any]]:
        return [
            point
            for seed in range(15)
            for point in play(build(name, of, seed), range(4), lambda _number: "completed")
        ]

    def share(points: list[dict[str, Any]], key: str, low: float, high: float) -> float:
        having = [point[key] for point in points if key in point]
        return sum(low <= value <= high for value in having) / len(having)

    expected, even = first_points(space), first_points(plain)
    for key, low, high in (
        ("learning_rate", 1e-6, 1e-3),
        ("lora_rank", 32, 512),
        ("dropout", 0.4, 0.8),
    ):
        assert share(expected, key, low, high) > 0.8
        assert share(even, key, low, high) < 0.75
    assert share(expected, "method", "lora", "lora") > 0.7  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_results_lead_away_from_a_wrong_prior(name: AlgorithmName) -> None:
    space = Space.parse(
        {
            "learning_rate": {"log_uniform": [1e-6, 1.0], "prior": 0.1, "prior_confidence": "high"},
            "dropout": {"uniform": [0.0, 0.5]},
        }
    )
    points = play(ALGORITHMS[name](space, 0, 80), range(80), lambda _number: "completed")

    first, last = map(quality, points[:8]), map(quality, points[72:])
    assert sum(last) > sum(first) + 8
