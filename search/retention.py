"""Which checkpoints stay: last and best of live trials, best of ended ones, within a budget."""

import logging
import shutil
from pathlib import Path

from search.ledger import Ledger
from search.trial_record import StoredCheckpoint, TrialRecord
from trainables.checkpoint import TRAINING_FOLDER, folder_bytes

log = logging.getLogger(__name__)


class CheckpointKeeper:
    """Deletes what no resume and no winner needs; what can't be deleted is only logged.

    The ledger forgets a checkpoint before its files go, so that it never names one that is gone.
    """

    def __init__(
        self,
        ledger: Ledger,
        folder: Path,
        *,
        metric: str,
        higher_is_better: bool,
        budget_bytes: float,
        winners: int,
    ) -> None:
        self._ledger = ledger
        self._folder = folder
        self._metric = metric
        self._higher_is_better = higher_is_better
        self._budget_bytes = budget_bytes
        self._winners = winners

    def sweep(self) -> None:
        """Delete what a kill left behind: what no report speaks of, or no ended trial needs."""
        for trial_folder in _subfolders(self._folder):
            self._sweep(trial_folder)
        for trial in self._ledger.all_trials():
            if trial.state != "running":
                self.tidy(trial.number)
        for checkpoint in self._ledger.checkpoints():
            if not checkpoint.resumable and (checkpoint.path / TRAINING_FOLDER).is_dir():
                _delete(checkpoint.path / TRAINING_FOLDER)

    def sweep_trial(self, number: int) -> None:
        """Delete what a failed try of a trial left behind, such as half a checkpoint."""
        name = f"trial-{number:04d}"
        for folder in _subfolders(self._folder):
            if folder.name == name or folder.name.startswith(f"{name}."):
                self._sweep(folder)

    def _sweep(self, trial_folder: Path) -> None:
        known = {checkpoint.path.absolute() for checkpoint in self._ledger.checkpoints()}
        for folder in _subfolders(trial_folder):
            if folder.absolute() not in known:
                _delete(folder)
        if not any(path.is_relative_to(trial_folder.absolute()) for path in known):
            _delete(trial_folder)

    def choose_resumable(
        self, trial: TrialRecord
    ) -> tuple[StoredCheckpoint | None, list[StoredCheckpoint]]:
        """Find what a trial can go on from; forget what was damaged since it was written.

        Returns:
            Its last whole checkpoint, and those after it that aren't: files are missing, or not of
            the size that they had.
        """
        damaged: list[StoredCheckpoint] = []
        for checkpoint in reversed(trial.checkpoints):
            if not checkpoint.resumable:
                continue
            if is_whole(checkpoint):
                return checkpoint, damaged
            self.drop(checkpoint)
            damaged.append(checkpoint)
        return None, damaged

    def tidy(self, number: int) -> None:
        """Delete what a trial no longer needs, then keep the whole within its budget."""
        trial = self._ledger.trial(number)
        keep = self._needed(trial)
        for checkpoint in trial.checkpoints:
            if checkpoint not in keep:
                self.drop(checkpoint)
            elif trial.state != "running" and checkpoint.resumable:
                self._shrink(checkpoint)
        self._keep_within_budget()

    def _needed(self, trial: TrialRecord) -> list[StoredCheckpoint]:
        if not trial.checkpoints or trial.state == "failed":
            return []
        best = self._best(trial)
        last = trial.checkpoints[-1]
        if trial.state == "running":
            return [last] if best is None else [best, last]
        return [last if best is None else best]

    def _best(self, trial: TrialRecord) -> StoredCheckpoint | None:
        sign = 1 if self._higher_is_better else -1
        values = {r.epoch: sign * r.metrics[self._metric] for r in trial.reports}
        kept = [checkpoint for checkpoint in trial.checkpoints if checkpoint.epoch in values]
        return max(kept, key=lambda checkpoint: values[checkpoint.epoch], default=None)

    def _keep_within_budget(self) -> None:
        total = self._ledger.checkpoint_bytes()
        if total <= self._budget_bytes:
            return
        sign = 1 if self._higher_is_better else -1
        ranked: list[tuple[float, TrialRecord]] = []
        # Those that were trained again stay: one of them becomes the bundle.
        for trial in self._ledger.trials():
            best = trial.best_report(self._metric, higher_is_better=self._higher_is_better)
            if best is not None and trial.state != "failed":
                ranked.append((sign * best.metrics[self._metric], trial))
        ranked.sort(key=lambda pair: (-pair[0], pair[1].number))
        for _score, trial in reversed(ranked[self._winners :]):
            if trial.state == "running":
                continue
            for checkpoint in trial.checkpoints:
                self.drop(checkpoint)
                total -= checkpoint.num_bytes
            if total <= self._budget_bytes:
                return

    def drop(self, checkpoint: StoredCheckpoint) -> None:
        """Delete a checkpoint."""
        self._ledger.remove_checkpoint(checkpoint.path)
        _delete(checkpoint.path)

    def _shrink(self, checkpoint: StoredCheckpoint) -> None:
        training = checkpoint.path / TRAINING_FOLDER
        rest = checkpoint.num_bytes - folder_bytes(training)
        self._ledger.shrink_checkpoint(checkpoint.path, max(rest, 0))
        if training.is_dir():
            _delete(training)


def is_whole(checkpoint: StoredCheckpoint) -> bool:
    """Return whether a checkpoint has its training state, and all its files their sizes."""
    has_state = (checkpoint.path / TRAINING_FOLDER).is_dir()
    return has_state and _size(checkpoint.path) == checkpoint.num_bytes


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _size(folder: Path) -> int:
    try:
        return folder_bytes(folder)
    except FileNotFoundError:
        return 0


def _delete(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("could not delete the checkpoint %s: %s", folder, error)
