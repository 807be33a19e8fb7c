"""none | asha: which trials go on after an epoch."""

import math
from collections.abc import Callable
from typing import Protocol

from search.study_config import SchedulerName, SearchConfig
from search.trial_record import Decision


class Scheduler(Protocol):
    """Decides on trials. Higher scores are better; the caller turns the sign of a loss.

    A decision depends on the reports before it and on nothing else, so that telling the same
    reports in the same order again rebuilds the scheduler.
    """

    def report(self, number: int, epoch: int, score: float) -> Decision:
        """Note a trial's score after an epoch and say whether the trial goes on."""


class RunToEnd:
    """Every trial runs to its end."""

    def report(self, number: int, epoch: int, score: float) -> Decision:
        """Return continue."""
        return "continue"


class SuccessiveHalving:
    """ASHA (Li et al. 2020, https://arxiv.org/abs/1810.05934), the variant that stops trials.

    Rungs stand at ``grace_epochs * reduction_factor ** k`` epochs. A trial that reaches a rung goes
    on if it is among the best ``1 / reduction_factor`` of those that reached it before, itself
    included; ties go on. The first ones at a rung go on, since nothing stands against them.
    """

    def __init__(self, *, grace_epochs: int, reduction_factor: int, max_epochs: int) -> None:
        self._reduction_factor = reduction_factor
        self._rungs: dict[int, dict[int, float]] = {}
        epochs = grace_epochs
        # At the last epoch there is nothing left to stop.
        while epochs < max_epochs:
            self._rungs[epochs] = {}
            epochs *= reduction_factor

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs after which trials may be stopped."""
        return tuple(self._rungs)

    def report(self, number: int, epoch: int, score: float) -> Decision:
        """Note a score; decide if the trial stands at a rung."""
        rung = self._rungs.get(epoch)
        if rung is None:
            return "continue"
        rung[number] = score if math.isfinite(score) else -math.inf
        if len(rung) < self._reduction_factor:
            return "continue"
        num_kept = len(rung) // self._reduction_factor
        threshold = sorted(rung.values(), reverse=True)[num_kept - 1]
        return "continue" if rung[number] >= threshold else "stop"


def _build_none(config: SearchConfig) -> Scheduler:
    return RunToEnd()


def _build_asha(config: SearchConfig) -> Scheduler:
    return SuccessiveHalving(
        grace_epochs=config.grace_epochs,
        reduction_factor=config.reduction_factor,
        max_epochs=config.epochs,
    )


SCHEDULERS: dict[SchedulerName, Callable[[SearchConfig], Scheduler]] = {
    "none": _build_none,
    "asha": _build_asha,
}
"""Schedulers by name."""
