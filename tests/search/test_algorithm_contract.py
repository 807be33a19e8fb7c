"""What every algorithm has to do, on spaces of every kind."""

import json
import math
import os
import random
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.algorithms import ALGORITHMS, Algorithm, Outcome, Point, effective_key
from search.study_config import AlgorithmName
from spaces.space import Space, load_preset
from spaces.trial_config import TrialConfig

SPACES = {
    "continuous": Space.parse(
        {
            "learning_rate": {"log_uniform": [1e-6, 1e-1]},
            "dropout": {"uniform": [0.0, 0.5]},
        }
    ),
    "conditional": load_preset("ctr"),
    "finite": Space.parse(
        {
            "method": {"choice": ["full", "lora"]},
            "lora_rank": {"choice": [2, 4, 8], "when": {"method": "lora"}},
            "batch_size": {"int": [8, 16], "step": 8},
        }
    ),
    "priors": Space.parse(
        {
            "learning_rate": {"log_uniform": [1e-6, 1e-1], "prior": 1e-4},
            "batch_size": {"choice": [8, 16, 32], "prior": 32, "prior_confidence": "high"},
            "tuned_layers": {"int": [1, 6], "prior": 2, "when": {"batch_size": [16, 32]}},
        }
    ),
    "grids": Space.parse(
        {
            "batch_size": {"grid": [8, 16, 32]},
            "method": {"choice": ["full", "lora"]},
            "lora_rank": {"grid": [2, 4], "when": {"method": "lora"}},
            "dropout": {"uniform": [0.0, 0.4], "step": 0.1},
            "constraints": ["batch_size * lora_rank <= 64"],
        }
    ),
}
NOT_LEARNING: tuple[AlgorithmName, ...] = ("grid", "random", "sobol")


def cases(*names: AlgorithmName, slow: tuple[str, ...] = ()) -> list[Any]:
    """Pair algorithms, all if none is named, with the spaces that they take."""
    return [
        pytest.param(
            name,
            space,
            id=f"{name}-{kind}",
            marks=[pytest.mark.slow] if name in slow else [],
        )
        for name in names or ALGORITHMS
        for kind, space in SPACES.items()
        if (name != "grid" or not space.continuous())
        and (name in NOT_LEARNING or not space.grids())
    ]


every_case = pytest.mark.parametrize(("name", "space"), cases())
# A Gaussian process takes a tenth of a second and more for a point.
every_case_gp_slow = pytest.mark.parametrize(("name", "space"), cases(slow=("gp",)))


def build(name: AlgorithmName, space: Space, seed: int = 0) -> Algorithm:
    return ALGORITHMS[name](space, seed, 12)


def quality(point: Point) -> float:
    """Best, 0, at a learning rate of 1e-4 and a dropout of 0.2."""
    rate, dropout = float(point.get("learning_rate", 1e-3)), float(point.get("dropout", 0.1))
    return -abs(math.log10(rate) + 4) - 4 * abs(dropout - 0.2)


@dataclass
class Play:
    """Asks, reports and ends trials in an order drawn by chance, and remembers all of it."""

    rng: random.Random = field(compare=False)
    points: list[Point | None] = field(default_factory=list)
    reports: list[tuple[int, int, float]] = field(default_factory=list)
    ends: dict[int, tuple[Outcome, float | None]] = field(default_factory=dict)

    def copy(self) -> "Play":
        rng = random.Random()
        rng.setstate(self.rng.getstate())
        return Play(rng, list(self.points), list(self.reports), dict(self.ends))

    def running(self) -> list[int]:
        asked = [number for number, point in enumerate(self.points) if point is not None]
        return [number for number in asked if number not in self.ends]

    def step(self, algorithm: Algorithm, most_running: int = 3) -> None:
        running = self.running()
        if not running or (len(running) < most_running and self.rng.random() < 0.5):
            if None not in self.points:
                self.points.append(algorithm.ask(len(self.points)))
            return
        number = self.rng.choice(running)
        score = quality(self.points[number] or {}) + 0.01 * number
        if self.rng.random() < 0.3:
            epoch = sum(told == number for told, _, _ in self.reports) + 1
            self.reports.append((number, epoch, score))
            algorithm.tell_report(*self.reports[-1])
        else:
            ends: list[tuple[Outcome, float | None]] = [
                ("completed", score),
                ("completed", score),
                ("stopped", score),
                ("failed", None),
                ("completed", math.nan),
            ]
            self.ends[number] = self.rng.choice(ends)
            algorithm.tell(number, *self.ends[number])

    def tell_again(self, algorithm: Algorithm) -> None:
        """Tell a new process what is known, as the conductor does: ends by number."""
        for number, point in enumerate(self.points):
            if point is not None:
                algorithm.adopt(number, point)
        for report in self.reports:
            algorithm.tell_report(*report)
        for number in sorted(self.ends):
            algorithm.tell(number, *self.ends[number])


def play(name: AlgorithmName, space: Space, seed: int, steps: int) -> Play:
    played, algorithm = Play(random.Random(seed)), build(name, space)
    for _ in range(steps):
        played.step(algorithm)
    return played


def one_by_one(algorithm: Algorithm, num_trials: int) -> list[Point]:
    """Complete trial after trial, and return the points."""
    points = []
    for number in range(num_trials):
        point = algorithm.ask(number)
        if point is None:
            break
        points.append(point)
        algorithm.tell_report(number, 1, quality(point))
        algorithm.tell(number, "completed", quality(point))
    return points


@every_case
def test_every_point_is_one_of_the_space_and_survives_json(
    name: AlgorithmName, space: Space
) -> None:
    for point in one_by_one(build(name, space), 7):
        TrialConfig(**point)  # type: ignore[arg-type]
        assert json.loads(json.dumps(point)) == point
        active = space.walk(lambda name, _parameter: point[name])  # noqa: B023 - called at once
        assert active == point
        for key, value in point.items():
            parameter = space.parameters[key]
            if parameter.choices is not None:
                assert value in parameter.choices
            else:
                low, high = map(float, parameter.extremes())
                assert low <= float(value) <= high


@every_case
def test_equal_seeds_and_news_give_equal_points(name: AlgorithmName, space: Space) -> None:
    assert play(name, space, seed=1, steps=16) == play(name, space, seed=1, steps=16)


@pytest.mark.parametrize(("name", "space"), cases("random", "sobol", "tpe", "gp", "cmaes"))
def test_another_seed_gives_other_points(name: AlgorithmName, space: Space) -> None:
    points = one_by_one(build(name, space), 4)

    assert one_by_one(build(name, space, seed=1), 4) != points


@every_case_gp_slow
@settings(max_examples=4)
@given(seed=st.integers(0, 10**6))
def test_restart_at_any_moment_continues_as_if_there_had_been_none(
    name: AlgorithmName, space: Space, seed: int
) -> None:
    rng = random.Random(seed)
    whole, before = build(name, space), Play(rng)
    for _ in range(rng.randint(0, 40)):
        before.step(whole)
    again, after = build(name, space), before.copy()
    before.tell_again(again)
    for _ in range(10):
        before.step(whole)
        after.step(again)

    assert after.points == before.points


@every_case_gp_slow
@settings(max_examples=3)
@given(seed=st.integers(0, 10**6))
def test_no_two_trials_train_the_same_model(name: AlgorithmName, space: Space, seed: int) -> None:
    points = [point for point in play(name, space, seed, steps=40).points if point is not None]

    assert len({effective_key(point) for point in points}) == len(points)


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_a_finite_space_is_tried_in_full_and_then_ends(name: AlgorithmName) -> None:
    algorithm = build(name, SPACES["finite"])

    assert len(one_by_one(algorithm, 20)) == SPACES["finite"].count() == 8
    assert algorithm.ask(8) is None
    assert algorithm.ask(9) is None


@every_case
@pytest.mark.parametrize("score", [math.nan, -math.inf, None])
def test_a_score_that_is_no_number_breaks_nothing(
    name: AlgorithmName, space: Space, score: float | None
) -> None:
    algorithm = build(name, space)
    for number in range(6):
        assert algorithm.ask(number) is not None
        if score is not None:
            algorithm.tell_report(number, 1, score)
        algorithm.tell(number, ("completed", "failed", "stopped")[number % 3], score)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "space"), cases(*NOT_LEARNING))
@settings(max_examples=5)
@given(seed=st.integers(0, 10**6))
def test_order_of_results_changes_no_point_where_nothing_is_learned(
    name: AlgorithmName, space: Space, seed: int
) -> None:
    alone = one_by_one(build(name, space), 8)
    played, algorithm = Play(random.Random(seed)), build(name, space)
    while len(played.points) < 8:
        played.step(algorithm, most_running=4)

    assert played.points == alone


@pytest.mark.parametrize("name", ["random", "sobol", "tpe", "gp", "cmaes"])
def test_trials_of_the_same_moment_keep_apart(name: AlgorithmName) -> None:
    space = SPACES["continuous"]
    algorithm = build(name, space)
    one_by_one(algorithm, 9)
    asked = [algorithm.ask(number) or {} for number in range(9, 13)]
    places = [(math.log10(float(p["learning_rate"])) / 5, float(p["dropout"]) / 0.5) for p in asked]

    for index, place in enumerate(places):
        assert all(math.dist(place, other) > 1e-3 for other in places[:index])


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_points_do_not_depend_on_how_a_process_hashes_text(name: AlgorithmName) -> None:
    space = "finite" if name == "grid" else "conditional"
    script = (
        "from tests.search.test_algorithm_contract import SPACES, build, one_by_one\n"
        f"print(one_by_one(build({name!r}, SPACES[{space!r}]), 8))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert len(printed) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes"])
def test_what_learns_finds_better_points_than_random_search(name: AlgorithmName) -> None:
    def best(of: AlgorithmName, seed: int) -> float:
        algorithm = ALGORITHMS[of](SPACES["continuous"], seed, 30)
        return max(map(quality, one_by_one(algorithm, 30)))

    gains = [best(name, seed) - best("random", seed) for seed in range(20)]

    # One-sided, at 99 %: the quantile of Student's t with 19 degrees of freedom is 2.54.
    error = statistics.stdev(gains) / math.sqrt(len(gains))
    assert statistics.mean(gains) > 2.54 * error
