"""What the ledger tells of a trial: its point, reports, checkpoints and end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spaces.parameters import Value
from spaces.trial_config import TrialConfig

TrialState = Literal["running", "completed", "stopped", "failed"]
"""running: not ended, whether or not a process works on it; stopped: by the scheduler, for another
to take its place in a population, or because a budget ended the search."""
Decision = Literal["continue", "stop"]
"""What becomes of a trial after a report."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportRecord:
    """What a trial reported after an epoch, and what was decided."""

    number: int
    """The trial."""
    epoch: int
    """Finished epochs, from 1."""
    metrics: Mapping[str, float]
    """Validation metrics, and ``train_loss``."""
    seconds: float
    """Time spent on the epoch."""
    decision: Decision
    """Whether the trial went on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCheckpoint:
    """A checkpoint that the study still keeps."""

    number: int
    """The trial."""
    path: Path
    """Its folder."""
    epoch: int
    """Finished epochs that it holds."""
    num_bytes: int
    """Its size on disk."""
    resumable: bool
    """Whether it still has its training state."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Continuation:
    """Where a trial of a population began that took another one's place."""

    number: int
    """The trial whose checkpoint it goes on from."""
    epoch: int
    """Finished epochs of that checkpoint."""
    replaces: int
    """The trial that was stopped for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """One trial, as far as it came."""

    number: int
    """Its number in the study, from 0."""
    params: Mapping[str, Value]
    """The point of the space."""
    config: TrialConfig
    """All that the trial was told."""
    config_hash: str
    """:meth:`trainables.trial_setup.TrialSetup.config_hash` of that."""
    state: TrialState
    """How it ended, or running."""
    starts: int
    """How often a process took it up."""
    failures: int
    """How often it failed."""
    error: str | None
    """Why it failed last."""
    created_at: float
    """Seconds since the epoch of Unix."""
    ended_at: float | None
    """The same, once it has ended."""
    reports: tuple[ReportRecord, ...]
    """In the order of epochs."""
    checkpoints: tuple[StoredCheckpoint, ...]
    """Those still on disk, in the order of epochs."""
    repeats: int | None = None
    """The trial of the search that it trains again with another seed; None: it is one itself."""
    reused: str | None = None
    """The trial of an earlier study that it was taken over from; None: it was trained here."""
    continues: Continuation | None = None
    """Where it began, if another trial of the study had trained its model before."""

    @property
    def first_epoch(self) -> int:
        """The first epoch that it trains, from 1."""
        return 1 if self.continues is None else self.continues.epoch + 1

    @property
    def last_epoch(self) -> int:
        """Finished epochs of its model: those reported, and before them the continued trial's."""
        return self.reports[-1].epoch if self.reports else self.first_epoch - 1

    @property
    def is_left_out(self) -> bool:
        """Whether it was stopped before its first step, because its model would exceed a limit."""
        return self.state == "stopped" and not self.reports

    @property
    def is_whole(self) -> bool:
        """Whether it was trained to its end."""
        return self.state == "completed"

    @property
    def seconds(self) -> float:
        """Time spent on all reported epochs."""
        return sum(report.seconds for report in self.reports)

    def best_report(self, metric: str, *, higher_is_better: bool) -> ReportRecord | None:
        """Return the report with the best value of a metric; the first among equals."""
        sign = 1 if higher_is_better else -1
        reports = [report for report in self.reports if metric in report.metrics]
        return max(reports, key=lambda report: sign * report.metrics[metric], default=None)


def say_trial(trial: TrialRecord) -> str:
    """Write which trial it is: trial 7, or trial 7 again with seed 1."""
    if trial.repeats is None:
        return f"trial {trial.number}"
    return f"trial {trial.repeats} again with seed {trial.config.seed}"


def say_continuation(trial: TrialRecord) -> str:
    """Write what a trial continues: continues trial 3 from epoch 2; nothing if it is new."""
    if (begun := trial.continues) is None:
        return ""
    return f"continues trial {begun.number} from epoch {begun.epoch}"


def without_replaced(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the trials whose place in a population no other trial took."""
    replaced = {trial.continues.replaces for trial in trials if trial.continues is not None}
    return [trial for trial in trials if trial.number not in replaced]
