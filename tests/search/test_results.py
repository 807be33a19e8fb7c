from pathlib import Path

import pytest

from search.leaderboard import leaderboard
from search.ledger import Ledger
from search.results import read_result
from search.study_config import dump_study, parse_study
from search.trial_record import ReportRecord, TrialState
from spaces.trial_config import TrialConfig
from trainables.trial_setup import CheckpointRecord

STUDY = """
name: tiny
data: {path: clicks.csv, columns: {text: [title], label: clicked}}
space: ctr
winners: 2
"""


def add(root: Path, ledger: Ledger, number: int, values: list[float], state: TrialState) -> None:
    ledger.add_trial(number, {}, TrialConfig(), "h")
    for epoch, value in enumerate(values, start=1):
        report = ReportRecord(
            number=number, epoch=epoch, metrics={"roc_auc": value}, seconds=1, decision="continue"
        )
        checkpoint = root / str(number) / str(epoch)
        checkpoint.mkdir(parents=True)
        record = CheckpointRecord(path=str(checkpoint), epoch=epoch, num_bytes=1)
        ledger.add_report(report, record)
    if state != "running":
        ledger.end_trial(number, state)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = parse_study(STUDY)
    facts = {"config": dump_study(config), "status": "running", "higher_is_better": True}
    with Ledger.create(tmp_path, facts) as ledger:
        add(tmp_path, ledger, 0, [0.5, 0.8, 0.6], "completed")
        add(tmp_path, ledger, 1, [0.7], "stopped")
        add(tmp_path, ledger, 2, [0.99], "failed")
        add(tmp_path, ledger, 3, [0.8], "stopped")
        add(tmp_path, ledger, 4, [0.9], "running")
        add(tmp_path, ledger, 5, [], "running")
    return tmp_path


@pytest.mark.parametrize(
    ("higher_is_better", "order"), [(True, [4, 0, 3, 1]), (False, [0, 1, 3, 4])]
)
def test_leaderboard_ranks_by_best_value_and_leaves_failures_out(
    folder: Path, higher_is_better: bool, order: list[int]
) -> None:
    with Ledger.read(folder) as ledger:
        standings = leaderboard(ledger.trials(), "roc_auc", higher_is_better=higher_is_better)

    assert [standing.trial.number for standing in standings] == order
    assert [standing.rank for standing in standings] == [1, 2, 3, 4]


def test_standing_names_the_epoch_and_checkpoint_of_its_value(folder: Path) -> None:
    with Ledger.read(folder) as ledger:
        standing = leaderboard(ledger.trials(), "roc_auc", higher_is_better=True)[1]

    assert (standing.value, standing.epoch) == (0.8, 2)
    assert standing.checkpoint is not None
    assert standing.checkpoint.path == folder / "0" / "2"


def test_result_reads_a_running_study(folder: Path) -> None:
    result = read_result(folder)

    assert result.status == "running"
    assert result.config.winners == 2
    assert len(result.trials) == 6


def test_winners_have_ended_and_still_have_their_checkpoint(folder: Path) -> None:
    with Ledger.open(folder) as ledger:
        ledger.remove_checkpoint(folder / "3" / "1")

    winners = read_result(folder).winners
    (folder / "0" / "2").rmdir()
    left = read_result(folder).winners

    assert [standing.trial.number for standing in winners] == [0, 1]
    assert [standing.trial.number for standing in left] == [1]


def test_study_without_reports_has_no_best(tmp_path: Path) -> None:
    facts = {"config": STUDY, "status": "running", "higher_is_better": True}
    Ledger.create(tmp_path, facts).close()

    result = read_result(tmp_path)

    assert result.best is None
    assert result.leaderboard == result.winners == []
