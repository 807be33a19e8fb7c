"""What the ledger tells of a trial: its point, reports, checkpoints and end."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spaces.parameters import Value
from spaces.trial_config import TrialConfig

TrialState = Literal["running", "completed", "stopped", "failed"]
"""running: not ended, whether or not a process works on it; stopped: by the scheduler,
or because a budget ended the search."""
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

    @property
    def last_epoch(self) -> int:
        """Finished epochs that were reported."""
        return self.reports[-1].epoch if self.reports else 0

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
