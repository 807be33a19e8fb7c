"""Which trials go on after an epoch; each way to decide is one file, registered here by name."""

from collections.abc import Callable, Sequence
from typing import Protocol

from search.schedulers.hyperband import Hyperband
from search.schedulers.median import MedianStopping
from search.schedulers.multi_objective_halving import MultiObjectiveHalving
from search.schedulers.pbt import PopulationBased
from search.schedulers.run_to_end import RunToEnd
from search.schedulers.successive_halving import SuccessiveHalving
from search.search_config import SchedulerName, SearchConfig
from search.trial_record import Decision


class Scheduler(Protocol):
    """Decides on trials. Higher scores are better; the caller turns the sign of a loss.

    A decision depends on the reports before it and on nothing else, not even on what became of
    earlier decisions: telling the same reports in the same order again rebuilds the scheduler, and
    a caller may stop a trial for reasons of its own. A score that isn't finite is the worst one.
    """

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs after which trials may be stopped, rising; the last epoch is never one.

        Where it is a population that is trained, they wait for each other there first.
        """

    def report(
        self, number: int, epoch: int, score: float, costs: Sequence[float] = ()
    ) -> Decision:
        """Note a trial's score after an epoch, and its costs where a study has several objectives.

        Returns:
            Whether the trial goes on.

        A trial's epochs come in order, each once.
        """


def _build_none(config: SearchConfig) -> Scheduler:
    return RunToEnd()


def _build_asha(config: SearchConfig) -> Scheduler:
    kind = MultiObjectiveHalving if config.objectives else SuccessiveHalving
    return kind(
        grace_epochs=config.grace_epochs,
        reduction_factor=config.reduction_factor,
        max_epochs=config.epochs,
    )


def _build_hyperband(config: SearchConfig) -> Scheduler:
    return Hyperband(
        grace_epochs=config.grace_epochs,
        reduction_factor=config.reduction_factor,
        max_epochs=config.epochs,
        num_brackets=config.brackets,
    )


def _build_median(config: SearchConfig) -> Scheduler:
    return MedianStopping(
        grace_epochs=config.grace_epochs, min_peers=config.min_peers, max_epochs=config.epochs
    )


def _build_pbt(config: SearchConfig) -> Scheduler:
    return PopulationBased(perturbation_epochs=config.perturbation_epochs, max_epochs=config.epochs)


SCHEDULERS: dict[SchedulerName, Callable[[SearchConfig], Scheduler]] = {
    "none": _build_none,
    "asha": _build_asha,
    "hyperband": _build_hyperband,
    "median": _build_median,
    "pbt": _build_pbt,
}
"""Schedulers by name."""
