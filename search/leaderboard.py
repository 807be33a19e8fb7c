"""Trials from best to worst, by their best report."""

from collections.abc import Sequence
from dataclasses import dataclass

from search.trial_record import StoredCheckpoint, TrialRecord


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
