import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search.conductor import Assignment, Conductor
from search.events import StudyEvent
from search.failures import StudyHaltedError
from search.ledger import Ledger
from search.study_config import StudyConfig, parse_study
from search.trial_record import TrialRecord
from tests.fakes import fake_metric, fake_result, fake_setup
from trainables.checkpoint import folder_bytes, read_checkpoint_info

SETUP = fake_setup()
STUDY = """
name: tiny
data: {path: clicks.csv, columns: {text: [title], label: clicked}}
space:
  learning_rate: {log_uniform: [1.0e-5, 1.0e-3]}
  batch_size: {choice: [8, 16]}
search:
  {algorithm: random, scheduler: asha, trials: 9, epochs: 4, max_failures: 1, confirm_trials: 0}
"""
few_examples = settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
GRID = ["search.algorithm=grid", "space={batch_size: {choice: [8, 16, 24]}, method: full}"]


def study(*overrides: str) -> StudyConfig:
    return parse_study(STUDY, overrides)


def conduct(
    config: StudyConfig, ledger: Ledger, folder: Path, on_event: Callable[..., None] | None = None
) -> Conductor:
    return Conductor(config, SETUP, ledger, folder, on_event=on_event or (lambda _event: None))


def take(conductor: Conductor) -> Assignment:
    step = conductor.ask()
    assert isinstance(step, Assignment)
    return step


def result(assignment: Assignment, epoch: int, **changes: object) -> dict[str, Any]:
    number, config = assignment.number, assignment.config
    shutil.rmtree(assignment.checkpoints / f"epoch-{epoch:04d}", ignore_errors=True)
    return {**fake_result(number, config, SETUP, epoch, assignment.checkpoints), **changes}


def first_epoch(assignment: Assignment) -> int:
    if assignment.resume_from is None:
        return 1
    info = read_checkpoint_info(assignment.resume_from)
    assert info.config_hash == SETUP.config_hash(assignment.config)
    return info.epoch + 1


class Crew:
    """Plays several processes that work for a conductor, in an order drawn by chance."""

    def __init__(self, rng: random.Random, size: int = 3) -> None:
        self.rng = rng
        self.size = size
        self.trained: list[tuple[int, int]] = []

    def work(self, conductor: Conductor, *, steps: int = 10_000, failure_rate: float = 0.0) -> bool:
        """Work until the study ends (True) or for a number of steps (False: all are killed)."""
        live: dict[int, tuple[Assignment, int]] = {}
        for _ in range(steps):
            while len(live) < self.size and isinstance(step := conductor.ask(), Assignment):
                assert step.number not in live
                live[step.number] = (step, first_epoch(step))
            if not live:
                assert conductor.ask() == "end"
                return True
            number = self.rng.choice(sorted(live))
            assignment, epoch = live.pop(number)
            if self.rng.random() < failure_rate:
                conductor.fail(number, "its process died")
                continue
            report = result(assignment, epoch)
            if self.rng.random() < 0.2 and steps < 10_000:
                return False  # Killed after the epoch was trained, before it was reported.
            self.trained.append((number, epoch))
            if conductor.report(number, report) == "continue":
                live[number] = (assignment, epoch + 1)
        return False


def run_alone(config: StudyConfig, folder: Path, seed: int = 0) -> list[TrialRecord]:
    with Ledger.create(folder, {}) as ledger:
        assert Crew(random.Random(seed)).work(conduct(config, ledger, folder))
        return ledger.trials()


def points(trials: list[TrialRecord]) -> list[tuple[int, Any, str]]:
    return [(trial.number, trial.config, trial.config_hash) for trial in trials]


def test_study_runs_every_trial_to_an_end(tmp_path: Path) -> None:
    trials = run_alone(study(), tmp_path)

    assert [trial.number for trial in trials] == list(range(9))
    assert {trial.state for trial in trials} == {"completed", "stopped"}
    for trial in trials:
        assert [report.epoch for report in trial.reports] == list(range(1, trial.last_epoch + 1))
        assert (trial.last_epoch == 4) == (trial.state == "completed")
        assert trial.starts == 1


@pytest.mark.parametrize("algorithm", ["random", "sobol", "tpe"])
def test_points_to_start_from_come_first_and_survive_a_restart(
    tmp_path: Path, algorithm: str
) -> None:
    given = "search.start_from=[{learning_rate: 2.0e-4}, {batch_size: 8}]"
    config = study(given, f"search.algorithm={algorithm}", "search.scheduler=none")
    whole = run_alone(config, tmp_path / "whole")
    with Ledger.create(tmp_path / "killed", {}) as ledger:
        assert not Crew(random.Random(1), size=1).work(
            conduct(config, ledger, tmp_path / "killed"), steps=3
        )
    with Ledger.open(tmp_path / "killed") as ledger:
        assert Crew(random.Random(0)).work(conduct(config, ledger, tmp_path / "killed"))
        resumed = ledger.trials()

    starts = [dict(trial.params) for trial in whole[:2]]
    assert [start["learning_rate"] for start in starts] == [2e-4, 3e-4]
    assert starts == [dict(trial.params) for trial in resumed[:2]]
    assert len({str(sorted(trial.params.items())) for trial in whole}) == 9
    if algorithm != "tpe":
        # What TPE proposes depends on the order of the results.
        assert points(resumed) == points(whole)


def test_grid_ends_with_its_points(tmp_path: Path) -> None:
    trials = run_alone(study(*GRID), tmp_path)

    assert [trial.params["batch_size"] for trial in trials] == [8, 16, 24]


@pytest.fixture(scope="module", params=[[], GRID, ["search.scheduler=none", "search.trials=5"]])
def left_alone(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[StudyConfig, list[TrialRecord]]:
    config = study(*request.param)
    return config, run_alone(config, tmp_path_factory.mktemp("alone"))


@few_examples
@given(seed=st.integers(0, 10**6))
def test_study_killed_at_any_moment_ends_with_the_same_trials(
    tmp_path_factory: pytest.TempPathFactory,
    left_alone: tuple[StudyConfig, list[TrialRecord]],
    seed: int,
) -> None:
    config, alone = left_alone
    folder, crew = tmp_path_factory.mktemp("killed"), Crew(random.Random(seed))
    Ledger.create(folder, {}).close()
    done = False
    while not done:
        with Ledger.open(folder) as ledger:
            done = crew.work(conduct(config, ledger, folder), steps=crew.rng.randint(0, 9))
            trials = ledger.trials()

    assert points(trials) == points(alone)
    assert all(trial.state in ("completed", "stopped") for trial in trials)
    assert len(crew.trained) == len(set(crew.trained))


@few_examples
@given(seed=st.integers(0, 10**6))
def test_tpe_goes_on_after_a_kill_as_if_there_had_been_none(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    config = study("search.algorithm=tpe", "space=ctr", "search.trials=7", "search.epochs=2")
    alone = tmp_path_factory.mktemp("alone")
    with Ledger.create(alone, {}) as ledger:
        Crew(random.Random(0), size=1).work(conduct(config, ledger, alone))
        expected = points(ledger.trials())
    folder, crew = tmp_path_factory.mktemp("killed"), Crew(random.Random(seed), size=1)
    Ledger.create(folder, {}).close()
    done = False
    while not done:
        with Ledger.open(folder) as ledger:
            done = crew.work(conduct(config, ledger, folder), steps=crew.rng.randint(0, 9))
            found = points(ledger.trials())

    assert found == expected


@few_examples
@given(seed=st.integers(0, 10**6))
def test_processes_that_die_cost_no_point_and_no_epoch(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    config, folder = study("search.max_failures=2"), tmp_path_factory.mktemp("failing")
    crew = Crew(random.Random(seed))
    with Ledger.create(folder, {}) as ledger:
        conductor = conduct(config, ledger, folder)
        conductor.report(-1, {})
        crew.work(conductor, failure_rate=0.2)
        trials = ledger.trials()

    assert len(crew.trained) == len(set(crew.trained))
    for trial in trials:
        assert trial.failures <= 3
        assert (trial.state == "failed") == (trial.failures == 3)
        assert trial.starts == min(trial.failures, 2) + 1


def test_failed_trial_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(study(), ledger, tmp_path)
        trial = take(conductor)
        conductor.report(0, result(trial, 1))
        half = trial.checkpoints / "epoch-0002.partial"
        half.mkdir()
        conductor.fail(0, "its process died")
        again = take(conductor)

        assert not half.exists()
        assert again.number == 0
        assert again.config == trial.config
        assert again.resume_from == trial.checkpoints / "epoch-0001"
        assert again.checkpoints != trial.checkpoints


def test_trial_that_fails_too_often_is_given_up_and_the_count_outlives_a_restart(
    tmp_path: Path,
) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(study(), ledger, tmp_path)
        take(conductor)
        conductor.fail(0, "first")
        take(conductor)
    with Ledger.open(tmp_path) as ledger:
        conductor = conduct(study(), ledger, tmp_path)
        assert take(conductor).number == 0
        conductor.fail(0, "second")
        trial = ledger.trial(0)

    assert (trial.state, trial.failures, trial.error) == ("failed", 2, "second")


def test_failed_trial_is_not_run_again_after_a_restart(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(study("search.max_failures=0"), ledger, tmp_path)
        take(conductor)
        conductor.fail(0, "broken")
    with Ledger.open(tmp_path) as ledger:
        assert take(conduct(study(), ledger, tmp_path)).number == 1


def test_trial_that_ran_with_another_configuration_fails(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(study(), ledger, tmp_path)
        trial = take(conductor)

        assert conductor.report(0, result(trial, 1, config_hash="other")) == "stop"

        record = ledger.trial(0)
        assert record.state == "failed"
        assert "hash other, expected" in str(record.error)
        assert record.reports == ()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_trial_whose_metric_is_no_number_has_diverged(tmp_path: Path, value: float) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(study("search.algorithm=tpe"), ledger, tmp_path)
        trial = take(conductor)

        assert conductor.report(0, result(trial, 1, metrics={"roc_auc": value})) == "stop"

        assert ledger.trial(0).state == "failed"
        assert str(ledger.trial(0).error).startswith("diverged: roc_auc is")
        assert take(conductor).number == 1


def test_report_without_the_metric_fails_the_trial(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(study(), ledger, tmp_path)
        trial = take(conductor)
        conductor.report(0, result(trial, 1, metrics={"log_loss": 0.3}))

        assert ledger.trial(0).error == "reported no roc_auc; it reported log_loss"


def test_skipped_epoch_fails_the_trial(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(study(), ledger, tmp_path)
        trial = take(conductor)
        conductor.report(0, result(trial, 2))

        assert "reported epoch 2 after epoch 0" in str(ledger.trial(0).error)


def test_late_report_of_an_ended_trial_is_ignored(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(study("search.epochs=1"), ledger, tmp_path)
        trial = take(conductor)
        conductor.report(0, result(trial, 1))

        assert conductor.report(0, result(trial, 1)) == "stop"
        conductor.fail(0, "late")
        assert ledger.trial(0).state == "completed"
        assert ledger.trial(0).error is None


def test_search_waits_for_running_trials_before_it_ends(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(study("search.trials=1", "search.epochs=1"), ledger, tmp_path)
        trial = take(conductor)

        assert conductor.ask() == "wait"
        conductor.fail(0, "its process died")
        trial = take(conductor)
        conductor.report(0, result(trial, 1))
        assert conductor.ask() == "end"


def test_study_in_which_nothing_works_is_given_up(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(study("search.max_failures=0"), ledger, tmp_path)
        for number in range(3):
            take(conductor)
            conductor.fail(number, "no encoder")

        assert conductor.is_hopeless
        assert conductor.ask() == "end"

        # The cause may be mended since, so a resumed study tries its other trials.
        assert take(conduct(study(), ledger, tmp_path)).number == 3


def test_lost_checkpoint_costs_epochs_but_no_decision(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(study(), ledger, tmp_path)
        trial = take(conductor)
        for epoch in (1, 2):
            conductor.report(0, result(trial, epoch))
        shutil.rmtree(tmp_path / "checkpoints")
        conductor.fail(0, "the disk was wiped")

        again = take(conductor)
        assert again.resume_from is None
        for epoch in (1, 2, 3, 4):
            conductor.report(0, result(again, epoch))

        record = ledger.trial(0)
        assert record.state == "completed"
        assert [report.epoch for report in record.reports] == [1, 2, 3, 4]


def test_longer_study_goes_on_where_the_shorter_ended(tmp_path: Path) -> None:
    short, long = study("search.trials=3"), study("search.trials=6")
    with Ledger.create(tmp_path / "a", {}) as ledger:
        Crew(random.Random(0)).work(conduct(short, ledger, tmp_path / "a"))
        Crew(random.Random(1)).work(conduct(long, ledger, tmp_path / "a"))
        extended = points(ledger.trials())

    assert extended == points(run_alone(long, tmp_path / "b"))


def test_loss_is_minimized(tmp_path: Path) -> None:
    config = study("search.metric=log_loss", "search.epochs=4", "search.trials=30")

    trials = run_alone(config, tmp_path)

    def quality(trial: TrialRecord) -> float:
        return fake_metric(trial.config, 1)

    completed = [quality(trial) for trial in trials if trial.state == "completed"]
    stopped = [quality(trial) for trial in trials if trial.state == "stopped"]
    assert sum(completed) / len(completed) > sum(stopped) / len(stopped)


def test_every_event_is_told_after_the_ledger_holds_it(tmp_path: Path) -> None:
    events: list[StudyEvent] = []
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(study("search.epochs=2"), ledger, tmp_path, events.append)
        trial = take(conductor)
        conductor.report(0, result(trial, 1))
        conductor.fail(0, "its process died")
        again = take(conductor)
        conductor.report(0, result(again, 2))

    assert [event.kind for event in events] == [
        "started",
        "reported",
        "retried",
        "started",
        "reported",
        "completed",
    ]
    assert events[2].message == "its process died"
    assert events[-1].trial is not None
    assert events[-1].trial.state == "completed"


def test_a_trial_that_runs_out_of_memory_is_not_tried_again_and_others_go_on(
    tmp_path: Path,
) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(study("search.max_failures=3"), ledger, tmp_path)
        first = take(conductor)

        conductor.fail(first.number, "TrialOutOfMemoryError: out of memory with batch_size 16; use")

        assert ledger.trial(first.number).state == "failed"
        assert ledger.trial(first.number).error == "out of memory with batch_size 16; use"
        assert take(conductor).number == first.number + 1


def test_a_trial_that_was_killed_for_its_machine_is_tried_again(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(study(), ledger, tmp_path)
        first = take(conductor)

        conductor.fail(
            first.number, "1 worker(s) were killed due to the node running low on memory"
        )

        assert take(conductor).number == first.number
        assert "batch_size is" in str(ledger.trial(first.number).error)


def test_a_full_disk_halts_the_study_and_costs_no_trial(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(study("search.max_failures=0"), ledger, tmp_path)
        first = take(conductor)

        with pytest.raises(StudyHaltedError, match=r"disk is full: trial 0 can't write.*--resume"):
            conductor.fail(first.number, "OSError: [Errno 28] No space left on device")

        assert (ledger.trial(0).state, ledger.trial(0).failures) == ("running", 0)
        assert take(conduct(study(), ledger, tmp_path)).number == 0


def damage_size(checkpoint: Path) -> None:
    state = checkpoint / "training" / "state"
    state.write_bytes(state.read_bytes()[:100])


@pytest.mark.parametrize("damage", [damage_size, shutil.rmtree], ids=["truncated", "gone"])
def test_a_damaged_checkpoint_is_passed_over_and_told(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    config = study("search.scheduler=none")
    events: list[StudyEvent] = []
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(config, ledger, tmp_path)
        first = take(conductor)
        # The first epoch's is the best, and so is kept beside the last.
        for epoch, value in ((1, 0.9), (2, 0.5)):
            metrics = {"roc_auc": value}
            conductor.report(first.number, result(first, epoch, metrics=metrics))
    num_bytes = folder_bytes(first.checkpoints / "epoch-0002")
    damage(first.checkpoints / "epoch-0002")
    with Ledger.open(tmp_path) as ledger:
        again = take(conduct(config, ledger, tmp_path, events.append))

        assert again.resume_from == first.checkpoints / "epoch-0001"
        assert [kept.epoch for kept in ledger.checkpoints()] == [1]
        assert [event.message for event in events if event.kind == "warning"] == [
            f"trial 0's checkpoint of epoch 2 is damaged: its files are not the {num_bytes:,} "
            "bytes that were written; it goes on from epoch 1"
        ]
        damage(first.checkpoints / "epoch-0001")
    with Ledger.open(tmp_path) as ledger:
        assert take(conduct(config, ledger, tmp_path, events.append)).resume_from is None
        assert events[-1].message.endswith("it begins again")


def test_a_checkpoint_that_cannot_be_read_costs_no_try(tmp_path: Path) -> None:
    error = "DamagedCheckpointError: the checkpoint is damaged (EOFError: Ran out of input)"
    with Ledger.create(tmp_path, {}) as ledger:
        conductor = conduct(study("search.max_failures=0"), ledger, tmp_path)
        first = take(conductor)
        conductor.report(0, result(first, 1))
    with Ledger.open(tmp_path) as ledger:
        conductor = conduct(study("search.max_failures=0"), ledger, tmp_path)
        assert take(conductor).resume_from == first.checkpoints / "epoch-0001"

        conductor.fail(0, error)

        assert take(conductor).resume_from is None
        assert ledger.trial(0).failures == 0
        # With no checkpoint left it is an error as any other, and bounded.
        conductor.fail(0, error)
        assert ledger.trial(0).state == "failed"
