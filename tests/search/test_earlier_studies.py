"""What earlier studies know is used: equal trials aren't run again, good points come first."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.conductor import Conductor
from search.earlier_studies import (
    LIBRARIES_FACT,
    NUM_POINTS,
    EarlierStudies,
    check_earlier,
    read_earlier,
)
from search.ledger import Ledger
from search.study_config import StudyConfig, dump_study
from search.trial_record import TrialRecord
from tests.search.test_conductor import SETUP, Crew, study
from trainables.bundle.export import library_versions

FACTS: dict[str, Any] = {
    "data": {"fingerprint": SETUP.data_fingerprint},
    "encoder_fingerprint": SETUP.encoder_fingerprint,
    LIBRARIES_FACT: library_versions(),
}


def run(
    config: StudyConfig,
    folder: Path,
    *,
    earlier: EarlierStudies | None = None,
    facts: dict[str, Any] | None = None,
    crew: Crew | None = None,
) -> list[TrialRecord]:
    with Ledger.create(folder, {**FACTS, **(facts or {}), "config": dump_study(config)}) as ledger:
        conductor = Conductor(
            config, SETUP, ledger, folder.absolute(), earlier=earlier or EarlierStudies()
        )
        assert (crew or Crew(random.Random(0))).work(conductor)
        return ledger.all_trials()


def read(config: StudyConfig) -> EarlierStudies:
    return read_earlier(
        config,
        data_fingerprint=SETUP.data_fingerprint,
        encoder_fingerprint=SETUP.encoder_fingerprint,
    )


def warm(folder: Path, *overrides: str) -> StudyConfig:
    return study(f"search.warm_start=[{folder}]", "search.scheduler=none", *overrides)


@pytest.fixture
def first(tmp_path: Path) -> Path:
    run(study("search.scheduler=none"), tmp_path / "first")
    return tmp_path / "first"


def test_equal_trials_are_taken_over_and_cost_nothing(tmp_path: Path, first: Path) -> None:
    config, crew = warm(first, "search.trials=12"), Crew(random.Random(0))

    trials = run(config, tmp_path / "second", earlier=read(config), crew=crew)

    # The earlier study's nine, which are the first that a random search of the same seed draws,
    # and its two best, which come first.
    reused = [trial for trial in trials if trial.reused]
    trained = {number for number, _ in crew.trained}
    assert len(reused) == 9
    assert len(trained) == 3
    assert trained == {trial.number for trial in trials if not trial.reused}
    with Ledger.read(first) as ledger:
        known = {trial.config_hash: trial for trial in ledger.trials()}
    for trial in reused:
        old = known[trial.config_hash]
        assert trial.reused == f"trial {old.number} of tiny"
        assert trial.state == "completed"
        assert trial.starts == 0
        assert trial.seconds == 0
        assert [report.metrics for report in trial.reports] == [r.metrics for r in old.reports]
        assert trial.checkpoints[-1].path.is_dir()
        assert trial.checkpoints[-1].path.is_relative_to(tmp_path / "second")


def test_the_best_points_come_first(tmp_path: Path, first: Path) -> None:
    config = warm(first, "search.seed=5")
    with Ledger.read(first) as ledger:
        ranked = sorted(
            ledger.trials(), key=lambda t: -max(r.metrics["roc_auc"] for r in t.reports)
        )

    trials = run(config, tmp_path / "second", earlier=read(config))

    # After the default; with another seed they are other trials.
    best = [trial.params for trial in ranked[:NUM_POINTS]]
    default = config.default_point()
    expected = [default, *(point for point in best if point != default)]
    assert [trial.params for trial in trials[: len(expected)]] == expected
    assert not any(trial.reused for trial in trials)


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (LIBRARIES_FACT, {"torch": "0.1"}),
        (LIBRARIES_FACT, None),
    ],
)
def test_trials_of_other_software_are_run_again(tmp_path: Path, change: str, value: object) -> None:
    run(study("search.scheduler=none"), tmp_path / "first", facts={change: value})
    config = warm(tmp_path / "first")

    earlier = read(config)

    assert not earlier.known
    assert earlier.points
    assert len(earlier.told) == 9


@pytest.mark.parametrize(
    "facts", [{"data": {"fingerprint": "other"}}, {"encoder_fingerprint": "other"}]
)
def test_nothing_is_learned_from_other_data(tmp_path: Path, facts: dict[str, Any]) -> None:
    run(study("search.scheduler=none"), tmp_path / "first", facts=facts)

    earlier = read(warm(tmp_path / "first"))

    assert not earlier.told
    assert earlier.points


@pytest.mark.parametrize("override", ["search.metric=log_loss", "search.epochs=3"])
def test_nothing_is_learned_from_values_that_cannot_be_compared(first: Path, override: str) -> None:
    assert not read(warm(first, override)).told


def test_a_point_outside_of_the_space_is_left_out(first: Path) -> None:
    earlier = read(warm(first, "space.learning_rate={uniform: [0.5, 0.9]}"))

    assert earlier.points == ()
    assert earlier.told == ()


def test_tpe_learns_from_the_first_point_on(tmp_path: Path, first: Path) -> None:
    cold = study("search.algorithm=tpe", "search.seed=5", "search.trials=3")
    config = warm(first, "search.algorithm=tpe", "search.seed=5", "search.trials=6")
    earlier = read(config)

    alone = [trial.params for trial in run(cold, tmp_path / "cold")]
    trials = [trial.params for trial in run(config, tmp_path / "warm", earlier=earlier)]

    assert len(earlier.told) == 9
    # Random points of the same seed would be equal.
    assert not [point for point in alone[1:] if point in trials]


def test_what_the_scheduler_stops_is_taken_over_as_far(tmp_path: Path, first: Path) -> None:
    config = study(f"search.warm_start=[{first}]", "search.scheduler=asha")

    trials = run(config, tmp_path / "second", earlier=read(config))

    stopped = [trial for trial in trials if trial.reused and trial.state == "stopped"]
    assert stopped
    assert all(trial.reports[-1].decision == "stop" for trial in stopped)
    assert all(trial.last_epoch < 4 for trial in stopped)


def test_a_resume_goes_by_what_was_known_when_the_study_began(first: Path) -> None:
    earlier = read(warm(first))

    again = EarlierStudies.from_dict(json.loads(json.dumps(earlier.to_dict())))

    assert again == earlier


def test_a_trial_whose_checkpoint_has_gone_is_trained(tmp_path: Path, first: Path) -> None:
    config, crew = warm(first), Crew(random.Random(0))
    earlier = read(config)
    shutil.rmtree(first / "checkpoints")

    trials = run(config, tmp_path / "second", earlier=earlier, crew=crew)

    assert not [trial for trial in trials if trial.reused]
    assert len({number for number, _ in crew.trained}) == len(trials)


def test_what_the_earlier_space_held_fixed_is_not_guessed(tmp_path: Path) -> None:
    fixed = "space={learning_rate: {log_uniform: [1.0e-5, 1.0e-3]}, batch_size: 16}"
    run(study(fixed, "search.scheduler=none"), tmp_path / "first")

    same = read(warm(tmp_path / "first"))
    other = read(warm(tmp_path / "first", "space.batch_size={choice: [64, 128]}"))

    assert {told.point["batch_size"] for told in same.told} == {16}
    assert other.told == ()


def test_several_objectives_are_learned_from_with_their_costs(tmp_path: Path) -> None:
    both = "search.objectives=[train_seconds]"
    run(study("search.scheduler=none", both), tmp_path / "first")

    config = warm(tmp_path / "first", both, "search.algorithm=nsga2")
    earlier = read(config)

    assert all(len(told.costs) == 1 for told in earlier.told)
    assert read(warm(tmp_path / "first")).told == ()
    trials = run(config, tmp_path / "second", earlier=earlier)
    assert all(trial.reports[-1].metrics["train_seconds"] > 0 for trial in trials)


def test_a_kill_while_a_trial_is_taken_over_trains_it(
    tmp_path: Path, first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = warm(first)
    earlier, folder = read(config), tmp_path / "second"
    real: Callable[..., None] = Ledger.add_report

    def killed(self: Ledger, report: Any, *rest: Any) -> None:  # noqa: ANN401
        if report.epoch == 4:
            raise KeyboardInterrupt
        real(self, report, *rest)

    with Ledger.create(folder, {**FACTS, "config": dump_study(config)}) as ledger:
        conductor = Conductor(config, SETUP, ledger, folder.absolute(), earlier=earlier)
        monkeypatch.setattr(Ledger, "add_report", killed)
        with pytest.raises(KeyboardInterrupt):
            conductor.ask()
        monkeypatch.undo()
        again = Conductor(config, SETUP, ledger, folder.absolute(), earlier=earlier)
        assert Crew(random.Random(0)).work(again)

        assert {trial.state for trial in ledger.trials()} == {"completed"}
        assert [report.epoch for report in ledger.trial(0).reports] == [1, 2, 3, 4]


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"search\.warm_start: .* holds no study"):
        check_earlier(warm(tmp_path))
