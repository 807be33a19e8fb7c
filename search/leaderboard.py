"""Trials from best to worst, by their best report."""

from collections.abc import Sequence
from dataclasses import dataclass

from search.pareto import front
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


def pareto_front(
    standings: Sequence[Standing], objectives: Sequence[str], *, higher_is_better: bool
) -> list[Standing]:
    """Return the trials that no other one beats in every respect, the best metric first.

    Args:
        standings: A leaderboard.
        objectives: What is to be low beside the metric, as it was when a trial ended.
        higher_is_better: Whether the metric is maximized.
    """
    sign = 1 if higher_is_better else -1
    known = [
        s for s in standings if all(name in s.trial.reports[-1].metrics for name in objectives)
    ]
    points = [
        (sign * s.value, *(-s.trial.reports[-1].metrics[name] for name in objectives))
        for s in known
    ]
    return [known[place] for place in front(points)]
