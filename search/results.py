"""Leaderboard, winners: what a study found."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from search.budgets import ReachedBudget, reached_budget
from search.ledger import Ledger
from search.study_config import StudyConfig, parse_study
from search.trial_record import StoredCheckpoint, TrialRecord

StudyStatus = Literal["running", "completed", "interrupted", "failed"]
"""running: a process works on it, or was killed; interrupted: can be resumed; failed: given up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A trial's place on the leaderboard."""

    rank: int
    """1 is the best."""
    trial: TrialRecord
    """The trial."""
    value: float
    """Its best validation value of the study's metric."""
    epoch: int
    """The epoch that reached it."""
    checkpoint: StoredCheckpoint | None
    """That epoch's checkpoint, if it is still kept."""


def leaderboard(
    trials: Sequence[TrialRecord], metric: str, *, higher_is_better: bool
) -> list[Standing]:
    """Rank the trials by their best value; the earlier of two equals first.

    Failed trials, and those that never reported, have no place.
    """
    sign = 1 if higher_is_better else -1
    best = [
        (trial, report)
        for trial in trials
        if trial.state != "failed"
        and (report := trial.best_report(metric, higher_is_better=higher_is_better)) is not None
    ]
    best.sort(key=lambda pair: (-sign * pair[1].metrics[metric], pair[0].number))
    return [
        Standing(
            rank=rank,
            trial=trial,
            value=report.metrics[metric],
            epoch=report.epoch,
            checkpoint=next((c for c in trial.checkpoints if c.epoch == report.epoch), None),
        )
        for rank, (trial, report) in enumerate(best, start=1)
    ]


def choose_winners(standings: Sequence[Standing], num_winners: int) -> list[Standing]:
    """Return the best ended trials whose best checkpoint is still there, best first."""
    ended = [
        standing
        for standing in standings
        if standing.trial.state in ("completed", "stopped")
        and standing.checkpoint is not None
        and standing.checkpoint.path.is_dir()
    ]
    return ended[:num_winners]


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyResult:
    """A study as its ledger tells it, finished or not."""

    config: StudyConfig
    """The resolved study."""
    folder: Path
    """Its output folder."""
    status: StudyStatus
    """How it ended."""
    ended_by: ReachedBudget | None
    """The budget that ended its search before the last trial."""
    higher_is_better: bool
    """Whether its metric is maximized."""
    trials: tuple[TrialRecord, ...]
    """Every trial, by number."""

    @property
    def leaderboard(self) -> list[Standing]:
        """The trials from best to worst."""
        metric = self.config.search.metric
        return leaderboard(self.trials, metric, higher_is_better=self.higher_is_better)

    @property
    def best(self) -> Standing | None:
        """The best trial."""
        return next(iter(self.leaderboard), None)

    @property
    def winners(self) -> list[Standing]:
        """The trials that the study compresses."""
        return choose_winners(self.leaderboard, self.config.winners)


def read_result(folder: Path) -> StudyResult:
    """Read what a study found, also while it runs.

    Raises:
        ValueError: if the folder holds no study, or one that this version can't read.
    """
    with Ledger.read(folder) as ledger:
        config = parse_study(ledger.fact("config"), source=f"the study in {folder}")
        return StudyResult(
            config=config,
            folder=folder,
            status=ledger.fact("status"),
            ended_by=reached_budget(config.search, ledger),
            higher_is_better=ledger.fact("higher_is_better"),
            trials=tuple(ledger.trials()),
        )
