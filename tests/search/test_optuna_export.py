"""Optuna reads what the ledger tells."""

import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from search.optuna_export import export_to_optuna
from search.results import StudyResult, read_result
from tests.search.finished_study import finished_config, write_trials


@pytest.fixture
def result(tmp_path: Path) -> StudyResult:
    write_trials(tmp_path / "study", finished_config())
    return read_result(tmp_path / "study")


def load(path: Path) -> optuna.Study:
    return optuna.load_study(study_name="finished", storage=f"sqlite:///{path}")


def test_every_trial_is_there_as_it_ended(tmp_path: Path, result: StudyResult) -> None:
    assert export_to_optuna(result, tmp_path / "optuna.db") == 12

    trials = load(tmp_path / "optuna.db").trials
    states = {
        "completed": TrialState.COMPLETE,
        "stopped": TrialState.PRUNED,
        "failed": TrialState.FAIL,
        "running": TrialState.RUNNING,
    }
    assert [trial.state for trial in trials] == [states[trial.state] for trial in result.trials]
    assert {trial.state for trial in trials} == set(states.values())
    for ours, theirs in zip(result.trials, trials, strict=True):
        assert theirs.params == dict(ours.params)
        values = {report.epoch: report.metrics["roc_auc"] for report in ours.reports}
        assert theirs.intermediate_values == pytest.approx(values)


def test_the_best_trial_is_the_same(tmp_path: Path, result: StudyResult) -> None:
    export_to_optuna(result, tmp_path / "optuna.db")

    completed = [s for s in result.leaderboard if s.trial.state == "completed"]
    study = load(tmp_path / "optuna.db")
    assert study.best_trial.number == completed[0].trial.number
    assert study.best_value == pytest.approx(completed[0].value)
    assert study.metric_names == ["roc_auc"]


def test_an_export_is_replaced_and_nothing_else(tmp_path: Path, result: StudyResult) -> None:
    path = tmp_path / "optuna.db"
    export_to_optuna(result, path)
    export_to_optuna(result, path)
    assert len(load(path).trials) == 12

    (tmp_path / "notes.db").write_text("mine")
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t (x)")
    for name in ("notes.db", "other.db"):
        with pytest.raises(ValueError, match="is there already and no database of Optuna's"):
            export_to_optuna(result, tmp_path / name)
    assert (tmp_path / "notes.db").read_text() == "mine"


def test_a_missing_folder_is_named(tmp_path: Path, result: StudyResult) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        export_to_optuna(result, tmp_path / "nowhere" / "optuna.db")
