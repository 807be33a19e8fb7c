import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.ledger import Ledger
from search.retention import CheckpointKeeper
from search.trial_record import ReportRecord, TrialState
from spaces.trial_config import TrialConfig
from tests.fakes import save_fake_checkpoint
from trainables.checkpoint import folder_bytes


class Shelf:
    """A ledger whose trials report given values and leave checkpoints."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.folder = folder
        self.ledger = ledger

    def keeper(self, *, budget_bytes: float = 1e9, winners: int = 1) -> CheckpointKeeper:
        return CheckpointKeeper(
            self.ledger,
            self.folder / "checkpoints",
            metric="roc_auc",
            higher_is_better=True,
            budget_bytes=budget_bytes,
            winners=winners,
        )

    def add(self, number: int, values: list[float], state: TrialState = "running") -> None:
        self.ledger.add_trial(number, {}, TrialConfig(), "h")
        for epoch, value in enumerate(values, start=1):
            folder = self.folder / "checkpoints" / f"trial-{number:04d}" / f"epoch-{epoch:04d}"
            report = ReportRecord(
                number=number,
                epoch=epoch,
                metrics={"roc_auc": value},
                seconds=1,
                decision="continue",
            )
            self.ledger.add_report(report, save_fake_checkpoint(folder, epoch))
        if state != "running":
            self.ledger.end_trial(number, state)

    def on_disk(self) -> list[str]:
        root = self.folder / "checkpoints"
        return sorted(str(path.relative_to(root)) for path in root.glob("*/epoch-*"))

    def noted(self) -> list[str]:
        root = self.folder / "checkpoints"
        return sorted(str(kept.path.relative_to(root)) for kept in self.ledger.checkpoints())


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with Ledger.create(tmp_path, {}) as ledger:
        yield Shelf(tmp_path, ledger)


def test_live_trial_keeps_last_and_best_with_training_state(shelf: Shelf) -> None:
    shelf.add(0, [0.6, 0.8, 0.7, 0.75])

    shelf.keeper().tidy(0)

    kept = ["trial-0000/epoch-0002", "trial-0000/epoch-0004"]
    assert shelf.on_disk() == shelf.noted() == kept
    assert all(checkpoint.resumable for checkpoint in shelf.ledger.checkpoints())


@pytest.mark.parametrize("state", ["completed", "stopped"])
def test_ended_trial_keeps_its_best_without_training_state(shelf: Shelf, state: TrialState) -> None:
    shelf.add(0, [0.6, 0.8, 0.7], state)

    shelf.keeper().tidy(0)

    (kept,) = shelf.ledger.checkpoints()
    assert shelf.on_disk() == ["trial-0000/epoch-0002"]
    assert not (kept.path / "training").exists()
    assert (kept.path / "model.safetensors").exists()
    assert not kept.resumable
    assert kept.num_bytes == folder_bytes(kept.path)


def test_failed_trial_keeps_nothing(shelf: Shelf) -> None:
    shelf.add(0, [0.6], "failed")

    shelf.keeper().tidy(0)

    assert shelf.on_disk() == shelf.noted() == []


def test_worst_ended_trials_pay_for_the_budget(shelf: Shelf) -> None:
    num_bytes = save_fake_checkpoint(shelf.folder / "whole", 1).num_bytes
    without_state = num_bytes - folder_bytes(shelf.folder / "whole" / "training")
    keeper = shelf.keeper(budget_bytes=2 * without_state)

    for number, value in enumerate([0.9, 0.6, 0.7, 0.8]):
        shelf.add(number, [value], "completed")
        keeper.tidy(number)

    assert shelf.on_disk() == shelf.noted() == ["trial-0000/epoch-0001", "trial-0003/epoch-0001"]


def test_winners_and_live_trials_keep_theirs_whatever_the_budget(shelf: Shelf) -> None:
    shelf.add(0, [0.9], "completed")
    shelf.add(1, [0.8], "completed")
    shelf.add(2, [0.7], "completed")
    shelf.add(3, [0.1])

    shelf.keeper(budget_bytes=1, winners=2).tidy(3)

    assert [name[:10] for name in shelf.on_disk()] == ["trial-0000", "trial-0001", "trial-0003"]


def test_what_no_report_speaks_of_is_swept(shelf: Shelf) -> None:
    shelf.add(0, [0.6])
    root = shelf.folder / "checkpoints"
    save_fake_checkpoint(root / "trial-0000" / "epoch-0002.partial", 2)
    save_fake_checkpoint(root / "trial-0001" / "epoch-0001", 1)

    shelf.keeper().sweep()

    assert [path.name for path in sorted(root.iterdir())] == ["trial-0000"]
    assert [path.name for path in (root / "trial-0000").iterdir()] == ["epoch-0001"]


def test_what_a_kill_left_of_an_ended_trial_is_swept(shelf: Shelf) -> None:
    shelf.add(0, [0.6, 0.8, 0.7], "completed")
    shelf.add(1, [0.5], "stopped")
    shelf.keeper().tidy(1)
    left = shelf.folder / "checkpoints" / "trial-0001" / "epoch-0001" / "training"
    left.mkdir()

    shelf.keeper().sweep()

    assert shelf.on_disk() == shelf.noted() == ["trial-0000/epoch-0002", "trial-0001/epoch-0001"]
    assert not any(checkpoint.resumable for checkpoint in shelf.ledger.checkpoints())
    assert not left.exists()


def test_checkpoint_that_is_gone_already_is_forgotten(shelf: Shelf) -> None:
    shelf.add(0, [0.6, 0.7])
    shutil.rmtree(shelf.folder / "checkpoints" / "trial-0000" / "epoch-0001")

    shelf.keeper().tidy(0)

    assert shelf.noted() == ["trial-0000/epoch-0002"]


def test_folder_that_cannot_be_deleted_is_logged_and_the_study_goes_on(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.add(0, [0.6, 0.7])
    stubborn = shelf.folder / "checkpoints" / "trial-0000" / "epoch-0001"
    shutil.rmtree(stubborn)
    stubborn.write_text("a file in the folder's place")

    with caplog.at_level(logging.WARNING):
        shelf.keeper().tidy(0)

    assert "could not delete the checkpoint" in caplog.text
    assert shelf.noted() == ["trial-0000/epoch-0002"]


def test_study_without_checkpoints_has_nothing_to_sweep(shelf: Shelf) -> None:
    shelf.keeper().sweep()

    assert shelf.noted() == []
