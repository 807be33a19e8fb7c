import random
import shutil
import time
from pathlib import Path

import pytest

from search.budgets import REACHED_FACT, describe_budgets, reached_budget, run_seconds
from search.conductor import Assignment, Conductor
from search.events import StudyEvent
from search.ledger import Ledger
from search.search_config import SearchConfig
from search.study_config import StudyConfig
from search.trial_record import Decision
from tests.fakes import fake_metric
from tests.search.test_conductor import SETUP, Crew, conduct, result, study, take

HOUR = 3600.0


class SteppedClock:
    """A clock that a test sets; it starts at the ledger's own time."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def conduct_timed(
    config: StudyConfig, ledger: Ledger, folder: Path, clock: SteppedClock
) -> Conductor:
    return Conductor(config, SETUP, ledger, folder, clock=clock)


def test_target_ends_the_search_and_stops_running_trials_at_their_next_report(
    tmp_path: Path,
) -> None:
    events: list[StudyEvent] = []
    config = study("search.target=0.9", "search.scheduler=none")
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(config, ledger, tmp_path, events.append)
        first, second = take(conductor), take(conductor)
        metrics = {"roc_auc": 0.91}

        assert conductor.report(0, result(first, 1)) == "continue"
        assert conductor.report(1, result(second, 1, metrics=metrics)) == "stop"
        assert conductor.ask() == "wait"
        assert not conductor.is_finished
        assert conductor.report(0, result(first, 2)) == "stop"
        assert conductor.ask() == "end"
        assert conductor.is_finished
        assert [trial.state for trial in ledger.trials()] == ["stopped", "stopped"]
        assert [r.decision for r in ledger.reports()] == ["continue", "stop", "stop"]
        reached = conductor.ended_by
        again = conduct(config, ledger, tmp_path)
        higher = study("search.target=0.95", "search.scheduler=none")

        assert reached is not None
        assert reached.reason == "trial 1 reached roc_auc 0.9100, and search.target is 0.9"
        assert [event.message for event in events if event.kind == "note"] == [
            f"the search ends: {reached.reason}"
        ]
        assert reached_budget(config.search, ledger) == reached
        assert again.ask() == "end"
        assert again.is_finished
        assert reached_budget(higher.search, ledger) is None
        assert take(conduct(higher, ledger, tmp_path)).number == 2
        assert ledger.fact(REACHED_FACT) is None


def test_target_of_a_loss_is_reached_from_above(tmp_path: Path) -> None:
    config = study("search.metric=log_loss", "search.target=0.2")
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(config, ledger, tmp_path)
        trial = take(conductor)
        conductor.report(0, result(trial, 1, metrics={"log_loss": 0.3}))
        assert conductor.ended_by is None
        conductor.report(0, result(trial, 2, metrics={"log_loss": 0.19}))

        assert conductor.ended_by is not None


def test_trial_at_its_last_epoch_is_completed_whatever_ends_the_search(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(study("search.target=0.1", "search.epochs=1"), ledger, tmp_path)
        conductor.report(0, result(take(conductor), 1))

        assert ledger.trial(0).state == "completed"
        assert ledger.trial(0).reports[-1].decision == "continue"


def test_training_time_of_all_trials_ends_the_search(tmp_path: Path) -> None:
    config = study("search.max_trial_hours=2", "search.scheduler=none")
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(config, ledger, tmp_path)
        first, second = take(conductor), take(conductor)

        assert conductor.report(0, result(first, 1, seconds=HOUR)) == "continue"
        assert conductor.report(1, result(second, 1, seconds=HOUR / 2)) == "continue"
        assert conductor.report(0, result(first, 2, seconds=HOUR / 2)) == "stop"
        reached = conductor.ended_by

        assert reached is not None
        assert (
            reached.reason == "its trials trained for 2 h 00 min, and search.max_trial_hours is 2"
        )


def test_wall_time_ends_the_search_once_and_for_all(tmp_path: Path) -> None:
    config, clock = study("search.max_hours=2", "search.scheduler=none"), SteppedClock()
    start = clock.now
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct_timed(config, ledger, tmp_path, clock)
        trial = take(conductor)
        clock.now += 1.9 * HOUR
        assert conductor.report(0, result(trial, 1)) == "continue"
        clock.now += 0.1 * HOUR
        assert conductor.report(0, result(trial, 2)) == "stop"

        # The ledger decides, not the clock of a later run.
        clock.now = start
        again = conduct_timed(config, ledger, tmp_path, clock)
        assert again.ask() == "end"
        assert again.is_finished
        longer = study("search.max_hours=3", "search.scheduler=none")
        assert take(conduct_timed(longer, ledger, tmp_path, clock)).number == 1


def test_interrupted_trial_of_a_search_that_ended_waits_for_a_larger_budget(
    tmp_path: Path,
) -> None:
    config, clock = study("search.max_hours=1", "search.scheduler=none"), SteppedClock()
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct_timed(config, ledger, tmp_path, clock)
        take(conductor)
        clock.now += HOUR
        assert conductor.ask() == "wait"

        killed = conduct_timed(config, ledger, tmp_path, clock)
        assert killed.ask() == "end"
        assert ledger.trial(0).state == "running"
        assert take(conduct(study("search.scheduler=none"), ledger, tmp_path)).number == 0


def test_time_between_runs_does_not_count() -> None:
    starts, moments = [100.0, 1_000.0, 5_000.0], [50.0, 110.0, 160.0, 1_020.0]

    # The last run, killed before anything was noted, adds nothing.
    assert run_seconds(starts, moments) == 60 + 20
    assert run_seconds([], moments) == 0


def test_patience_ends_the_search_but_no_running_trial(tmp_path: Path) -> None:
    config = study("search.patience=2", "search.epochs=2", "search.scheduler=none")
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(config, ledger, tmp_path)
        trials = [take(conductor) for _ in range(5)]
        # A new best, one that fails, and two that are no better.
        for trial, value in zip(trials[:4], (0.7, None, 0.6, 0.7), strict=True):
            if value is None:
                conductor.report(trial.number, result(trial, 1, config_hash="other"))
                continue
            assert conductor.ended_by is None
            for epoch in (1, 2):
                conductor.report(trial.number, result(trial, epoch, metrics={"roc_auc": value}))

        assert conductor.ended_by is not None
        assert conductor.ended_by.reason.startswith("2 trials in a row brought no new best")
        assert conductor.ask() == "wait"
        assert conductor.report(4, result(trials[4], 1)) == "continue"
        # Interrupted, it is the only one to go on.
        resumed = conduct(config, ledger, tmp_path)
        last = take(resumed)
        assert last.number == 4
        assert resumed.ask() == "wait"
        resumed.report(4, result(last, 2))
        assert resumed.is_finished


def test_after_patience_has_run_out_a_target_still_stops_what_runs(tmp_path: Path) -> None:
    config = study(
        "search.patience=1", "search.target=0.9", "search.epochs=3", "search.scheduler=none"
    )
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(config, ledger, tmp_path)
        trials = [take(conductor) for _ in range(4)]
        for trial in trials[:2]:
            for epoch in (1, 2, 3):
                conductor.report(trial.number, result(trial, epoch, metrics={"roc_auc": 0.7}))
        assert conductor.ended_by is not None
        assert conductor.ended_by.name == "patience"

        decision = conductor.report(2, result(trials[2], 1, metrics={"roc_auc": 0.95}))

        assert decision == "stop"
        assert conductor.ended_by.name == "target"
        assert conductor.report(3, result(trials[3], 1)) == "stop"
        assert conductor.is_finished


@pytest.mark.parametrize("scheduler", ["none", "asha", "hyperband", "median"])
@pytest.mark.parametrize("seed", [0, 1])
def test_rebuilt_conductor_decides_as_the_first_would_have(
    tmp_path: Path, scheduler: str, seed: int
) -> None:
    config = study(
        f"search.scheduler={scheduler}", "search.trials=20", "search.patience=9", "search.epochs=4"
    )
    half = tmp_path / "half"
    with Ledger.create(half, {}) as ledger:
        Crew(random.Random(seed)).work(conduct(config, ledger, half), steps=9)
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        shutil.copytree(half, folder)

    decisions = []
    for folder, num_rebuilds in ((first, 1), (second, 6)):
        crew = Crew(random.Random(seed))
        crew.size = 1
        for _ in range(num_rebuilds):
            with Ledger.open(folder) as ledger:
                steps = 10_000 if num_rebuilds == 1 else 5
                crew.work(conduct(config, ledger, folder), steps=steps)
        with Ledger.open(folder) as ledger:
            crew.work(conduct(config, ledger, folder))
            decisions.append([(r.number, r.epoch, r.decision) for r in ledger.reports()])

    assert sorted(decisions[0]) == sorted(decisions[1])


def test_recorded_decisions_stand_where_the_scheduler_would_decide_otherwise(
    tmp_path: Path,
) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(study("search.trials=4", "search.epochs=2"), ledger, tmp_path)
        trials: list[Assignment] = [take(conductor) for _ in range(4)]
        order = sorted(trials, key=lambda trial: -fake_metric(trial.config, 1))
        decisions: list[Decision] = [
            conductor.report(trial.number, result(trial, 1)) for trial in order
        ]
        assert decisions == ["continue", "stop", "stop", "stop"]

        # Without a scheduler nothing would have been stopped; three were, and stay so.
        other = study("search.scheduler=none", "search.trials=4", "search.epochs=2")
        rebuilt = conduct(other, ledger, tmp_path)
        resumed = [take(rebuilt).number]

    assert resumed == [order[0].number]


def test_budgets_are_described() -> None:
    search = SearchConfig(target=0.8, max_hours=1.5, max_trial_hours=4.0, patience=5)

    assert describe_budgets(search) == [
        "at roc_auc 0.8",
        "after 1 h 30 min",
        "after 4 h 00 min of training",
        "after 5 trials in a row without a new best",
    ]
    assert describe_budgets(SearchConfig()) == []
