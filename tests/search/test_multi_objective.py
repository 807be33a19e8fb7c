"""Several objectives: fronts go on, limits stop a trial before it trains, the report shows it."""

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest

from search.algorithms import ALGORITHMS, Point
from search.conductor import Conductor
from search.confirmation import missing_repeats
from search.evidence import read_evidence
from search.leaderboard import leaderboard, pareto_front
from search.ledger import Ledger
from search.report import render_report
from search.schedulers.multi_objective_halving import MultiObjectiveHalving
from search.search_config import SearchConfig
from search.shape_costs import (
    MAX_SHAPES,
    SHAPE_COSTS_FACT,
    check_limits,
    find_shapes,
    shape_key,
)
from search.study_config import StudyConfig, dump_study
from search.trial_record import TrialRecord
from spaces.space import Space
from spaces.trial_config import TrialConfig
from tests.search.test_conductor import SETUP, Crew, study

LAYERS = "space.encoder_layers={int: [1, 6]}"
BOTH = "search.objectives=[latency_ms, size_mb]"


def costs(config: StudyConfig) -> dict[str, dict[str, float]]:
    """Play the measurement: a layer takes a millisecond and two megabytes."""
    return {
        key: {
            "latency_ms": 1.0 + (trial.encoder_layers or 6),
            "size_mb": 12.0 + 2 * (trial.encoder_layers or 6),
        }
        for key, trial in find_shapes(config).items()
    }


def run(config: StudyConfig, folder: Path) -> list[TrialRecord]:
    facts: dict[str, Any] = {
        "config": dump_study(config),
        "status": "running",
        "higher_is_better": True,
        SHAPE_COSTS_FACT: costs(config),
    }
    with Ledger.create(folder, facts) as ledger:
        assert Crew(random.Random(0)).work(Conductor(config, SETUP, ledger, folder))
        return ledger.all_trials()


@pytest.mark.parametrize("algorithm", ["tpe", "nsga2", "random", "sobol"])
def test_every_report_knows_what_its_model_costs(tmp_path: Path, algorithm: str) -> None:
    config = study(LAYERS, BOTH, f"search.algorithm={algorithm}", "search.trials=12")

    trials = run(config, tmp_path)

    assert len(trials) == 12
    for trial in trials:
        assert trial.config.encoder_layers is not None
        for report in trial.reports:
            assert report.metrics["latency_ms"] == 1.0 + trial.config.encoder_layers
            assert report.metrics["size_mb"] == 12.0 + 2 * trial.config.encoder_layers


def test_training_time_is_that_of_a_whole_trial(tmp_path: Path) -> None:
    trials = run(study("search.objectives=[train_seconds]", "search.scheduler=none"), tmp_path)

    for trial in trials:
        spent = [report.metrics["train_seconds"] for report in trial.reports]
        # Four epochs at the speed of those before.
        assert spent == pytest.approx([0.04] * 4)


def test_the_front_is_what_no_other_trial_beats(tmp_path: Path) -> None:
    config = study(LAYERS, "search.objectives=[latency_ms]", "search.trials=20")

    standings = leaderboard(run(config, tmp_path), "roc_auc", higher_is_better=True)
    front = pareto_front(standings, ["latency_ms"], higher_is_better=True)

    assert front[0] == standings[0]
    values = [(s.value, s.trial.reports[-1].metrics["latency_ms"]) for s in front]
    assert values == sorted(values, key=lambda pair: -pair[0])
    latencies = [latency for _, latency in values]
    assert latencies == sorted(latencies, reverse=True)
    for other in standings:
        latency = other.trial.reports[-1].metrics["latency_ms"]
        assert other in front or any(v >= other.value and c <= latency for v, c in values)


@pytest.mark.parametrize(
    ("limit", "most"), [("search.max_latency_ms=4", 3), ("search.max_size_mb=16", 2)]
)
def test_a_model_over_a_limit_is_never_trained(tmp_path: Path, limit: str, most: int) -> None:
    config = study(LAYERS, limit, "search.trials=15", "search.scheduler=none")

    trials = run(config, tmp_path)

    assert sum(not trial.is_left_out for trial in trials) == 15
    for trial in trials:
        assert trial.config.encoder_layers is not None
        is_over = trial.config.encoder_layers > most
        assert (trial.state == "stopped") == is_over
        assert (trial.starts == 0) == is_over
        assert (not trial.reports) == is_over


def test_a_restart_knows_what_was_left_out(tmp_path: Path) -> None:
    config = study(LAYERS, "search.max_latency_ms=4", "search.trials=12", "search.algorithm=tpe")
    facts = {SHAPE_COSTS_FACT: costs(config)}
    with Ledger.create(tmp_path / "whole", facts) as ledger:
        crew = Crew(random.Random(0), size=1)
        assert crew.work(Conductor(config, SETUP, ledger, tmp_path / "whole"))
        whole = [trial.params for trial in ledger.trials()]
    with Ledger.create(tmp_path / "parts", facts) as ledger:
        for steps in (3, 5, 10_000):
            crew = Crew(random.Random(0), size=1)
            crew.rng.random = lambda: 1.0  # type: ignore[method-assign]
            crew.work(Conductor(config, SETUP, ledger, tmp_path / "parts"), steps=steps)

        assert [trial.params for trial in ledger.trials()] == whole


def test_the_front_is_trained_again(tmp_path: Path) -> None:
    config = study(
        LAYERS, "search.objectives=[latency_ms]", "search.trials=12", "search.confirm_trials=2"
    )
    trials = run(config, tmp_path)

    searched = [trial for trial in trials if trial.repeats is None]
    standings = leaderboard(searched, "roc_auc", higher_is_better=True)
    front = pareto_front(standings, ["latency_ms"], higher_is_better=True)
    again = {trial.repeats for trial in trials if trial.repeats is not None}
    assert {standing.trial.number for standing in front[:2]} <= again
    assert missing_repeats(trials, config) == []


def test_the_report_shows_the_front(tmp_path: Path) -> None:
    run(study(LAYERS, BOTH, "search.trials=12"), tmp_path)

    evidence = read_evidence(tmp_path)
    page = render_report(evidence)

    assert evidence.front
    assert "Pareto front" in page
    assert "latency_ms" in page


def test_halving_keeps_both_ends_of_a_front() -> None:
    halving = MultiObjectiveHalving(grace_epochs=1, reduction_factor=3, max_epochs=9)
    decisions = [
        halving.report(number, 1, score, (cost,))
        for number, (score, cost) in enumerate(
            # Good and slow, bad and fast, and five that are beaten by one of them.
            [(0.9, 9.0), (0.5, 1.0), (0.4, 2.0), (0.8, 9.5), (0.3, 3.0), (0.2, 2.0), (0.85, 9.2)]
        )
    ]

    assert decisions[:2] == ["continue", "continue"]
    assert decisions[2:] == ["stop"] * 5


def test_halving_with_one_objective_is_asha() -> None:
    rng = random.Random(0)
    config = SearchConfig(epochs=9, reduction_factor=3)
    from search.schedulers import SCHEDULERS

    single = SCHEDULERS["asha"](config)
    several = MultiObjectiveHalving(grace_epochs=1, reduction_factor=3, max_epochs=9)
    for number in range(60):
        for epoch in range(1, 10):
            score = rng.random()
            assert single.report(number, epoch, score) == several.report(number, epoch, score)


def test_a_diverged_trial_is_no_cheap_success() -> None:
    halving = MultiObjectiveHalving(grace_epochs=1, reduction_factor=2, max_epochs=4)
    halving.report(0, 1, 0.7, (5.0,))

    assert halving.report(1, 1, float("nan"), (0.1,)) == "stop"


def hypervolume(points: list[tuple[float, float]]) -> float:
    """Return the area below a front of (score, cost) with cost up to 1 and score from 0."""
    area, best = 0.0, 0.0
    ordered = sorted(points, key=lambda pair: pair[1])
    for place, (score, cost) in enumerate(ordered):
        best = max(best, score)
        until = ordered[place + 1][1] if place + 1 < len(ordered) else 1.0
        area += best * max(0.0, min(until, 1.0) - min(cost, 1.0))
    return area


@pytest.mark.parametrize("name", ["nsga2", "tpe"])
def test_algorithms_for_several_objectives_find_more_of_the_front_than_chance(name: str) -> None:
    space = Space.parse(
        {
            "learning_rate": {"log_uniform": [1e-5, 1e-2]},
            "dropout": {"uniform": [0.0, 0.9]},
            "weight_decay": {"uniform": [0.0, 1.0]},
        }
    )

    def evaluate(point: Point) -> tuple[float, float]:
        # The front lies where dropout and decay are 0; the rate trades score for cost.
        rate = (float(point["learning_rate"]) - 1e-5) / 1e-2
        waste = float(point["dropout"]) + float(point["weight_decay"])
        return rate**0.5 / (1 + waste), min(1.0, rate + waste / 2)

    areas: dict[str, list[float]] = {name: [], "random": []}
    for kind, found in areas.items():
        for seed in range(5):
            algorithm = ALGORITHMS[kind](space, seed, 60, (), 1)  # type: ignore[index]
            points = []
            for number in range(60):
                point = algorithm.ask(number)
                assert point is not None
                score, cost = evaluate(point)
                algorithm.tell(number, "completed", score, (cost,))
                points.append((score, cost))
            found.append(hypervolume(points))

    assert sum(areas[name]) / 5 > sum(areas["random"]) / 5 + 0.02


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search.algorithm=gp"], "search.algorithm is gp, which knows one objective"),
        (["search.scheduler=median"], "search.scheduler is median, .* use asha or none"),
        (["search.objectives=[size_mb, size_mb]"], "search.objectives names one twice"),
        (["search.objectives=[speed]"], "search.objectives"),
        (["search.max_latency_ms=0"], "search.max_latency_ms must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study(BOTH, *overrides)


def test_shapes_are_those_that_differ() -> None:
    config = study(LAYERS, "space.inputs={choice: [all, text]}", "space.dropout=0.1")

    assert len(find_shapes(config)) == 12
    one = TrialConfig(encoder_layers=3)
    assert shape_key(one) == shape_key(dataclasses.replace(one, learning_rate=1e-3, batch_size=8))
    fields = [TrialConfig(inputs="fields", encoder_layers=n) for n in (1, 2)]
    assert shape_key(fields[0]) == shape_key(fields[1])


def test_too_many_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_SHAPES} are measured"):
        find_shapes(study("space.encoder_layers={int: [1, 100]}"))


def test_limits_that_nothing_keeps_are_refused() -> None:
    config = study(LAYERS, "search.max_latency_ms=1")

    with pytest.raises(ValueError, match=r"the fastest takes 2\.00 ms and 14\.0 MB; raise"):
        check_limits(config, costs(config))


def test_a_shape_that_exists_under_a_condition_is_measured_without_it_too() -> None:
    config = study(
        "space.method={choice: [full, lora]}",
        "space.encoder_layers={choice: [2, 4], when: {method: full}}",
    )

    layers = [trial.encoder_layers for trial in find_shapes(config).values()]

    assert sorted(layers, key=str) == [2, 4, None]
