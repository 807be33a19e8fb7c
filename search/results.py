"""Leaderboard, confirmation, winners: what a study found."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from search.budgets import ReachedBudget, reached_budget
from search.confirmation import Confirmation, choose_winners, find_confirmation
from search.leaderboard import Standing, leaderboard
from search.ledger import Ledger
from search.study_config import StudyConfig, parse_study
from search.trial_record import TrialRecord

StudyStatus = Literal["running", "completed", "interrupted", "failed"]
"""running: a process works on it, or was killed; interrupted: can be resumed; failed: given up."""


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
    """Every trial of the search, by number."""
    repeats: tuple[TrialRecord, ...]
    """Those that were trained again with other seeds."""

    @property
    def leaderboard(self) -> list[Standing]:
        """The trials from best to worst."""
        metric = self.config.search.metric
        return leaderboard(self.trials, metric, higher_is_better=self.higher_is_better)

    @property
    def confirmation(self) -> Confirmation | None:
        """What training the best again said; None where none was."""
        return find_confirmation((*self.trials, *self.repeats), self.config)

    @property
    def best(self) -> Standing | None:
        """The best trial: of those that were trained again, if any was, by their means."""
        confirmation = self.confirmation
        if confirmation is not None:
            return confirmation.best.found
        return next(iter(self.leaderboard), None)

    @property
    def winners(self) -> list[Standing]:
        """The trainings that the study compresses."""
        return choose_winners((*self.trials, *self.repeats), self.config)


def read_result(folder: Path) -> StudyResult:
    """Read what a study found, also while it runs.

    Raises:
        ValueError: if the folder holds no study, or one that this version can't read.
    """
    with Ledger.read(folder) as ledger:
        config = parse_study(ledger.fact("config"), source=f"the study in {folder}")
        trials = ledger.all_trials()
        return StudyResult(
            config=config,
            folder=folder,
            status=ledger.fact("status"),
            ended_by=reached_budget(config.search, ledger),
            higher_is_better=ledger.fact("higher_is_better"),
            trials=tuple(trial for trial in trials if trial.repeats is None),
            repeats=tuple(trial for trial in trials if trial.repeats is not None),
        )
