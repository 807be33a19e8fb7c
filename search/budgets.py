"""What ends a search before its last trial: a target, hours, or patience that has run out."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Literal

from search.formatting import format_duration, format_metric
from search.ledger import Ledger
from search.search_config import SearchConfig

BudgetName = Literal["target", "max_hours", "max_trial_hours", "patience"]

REACHED_FACT = "budget_reached"
"""Of a study's ledger: the budget that has ended its search."""
RUN_STARTS_FACT = "run_starts"
"""Of a study's ledger: when each of its runs began, in seconds since the epoch of Unix."""

Clock = Callable[[], float]
"""Returns seconds since the epoch of Unix."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReachedBudget:
    """A budget that has ended a search."""

    name: BudgetName
    """The setting."""
    limit: float
    """Its value. A study with another one goes on."""
    reason: str
    """What was found and what the limit is, as a sentence without its full stop."""

    @property
    def stops_running(self) -> bool:
        """Whether running trials stop at their next report, rather than run to their end."""
        return self.name != "patience"

    @property
    def is_time(self) -> bool:
        """Whether hours have run out, so that no trial is trained again either."""
        return self.name in ("max_hours", "max_trial_hours")


def reached_budget(search: SearchConfig, ledger: Ledger) -> ReachedBudget | None:
    """Return what has ended a study's search, unless the study's limit is another one by now."""
    fact = ledger.fact(REACHED_FACT)
    if fact is None:
        return None
    reached = ReachedBudget(**fact)
    return reached if getattr(search, reached.name) == reached.limit else None


def describe_budgets(search: SearchConfig) -> list[str]:
    """Say what may end a search early, a phrase for each budget that is set."""
    phrases = []
    if search.target is not None:
        phrases.append(f"at {search.metric} {search.target:g}")
    if search.max_hours is not None:
        phrases.append(f"after {format_duration(search.max_hours * 3600)}")
    if search.max_trial_hours is not None:
        phrases.append(f"after {format_duration(search.max_trial_hours * 3600)} of training")
    if search.patience is not None:
        phrases.append(f"after {search.patience} trials in a row without a new best")
    return phrases


class Budgets:
    """Counts what a study has spent and found, and says when that ends its search.

    Built over a ledger it notes the start of a run there, and is told the ledger's reports and ends
    again. The clock decides once: that a budget is reached goes into the ledger, and a later run
    takes it from there for as long as the limit stays what it was.
    """

    def __init__(
        self,
        search: SearchConfig,
        ledger: Ledger,
        *,
        higher_is_better: bool,
        clock: Clock = time.time,
    ) -> None:
        self._search = search
        self._ledger = ledger
        self._sign = 1.0 if higher_is_better else -1.0
        self._clock = clock
        self._best: tuple[float, int] | None = None
        self._best_ended: float | None = None
        self._num_without_best = 0
        self._trial_seconds = 0.0
        self._reached = reached_budget(search, ledger)
        if self._reached is None:
            # One that was raised doesn't count again should it be lowered to what it was.
            ledger.set_fact(REACHED_FACT, None)
        starts: list[float] = ledger.fact(RUN_STARTS_FACT, [])
        self._earlier_seconds = run_seconds(starts, ledger.moments())
        self._started = clock()
        ledger.set_fact(RUN_STARTS_FACT, [*starts, self._started])

    @property
    def reached(self) -> ReachedBudget | None:
        """The budget that has ended the search, as of the last check."""
        return self._reached

    @property
    def stops_running(self) -> bool:
        """Whether running trials stop at their next report."""
        return self._reached is not None and self._reached.stops_running

    def note_report(self, number: int, score: float | None, seconds: float) -> None:
        """Count a trial's report.

        Args:
            number: The trial.
            score: The metric's value, with its sign turned where it is minimized, so that higher is
                better; None of a trial that has failed since: what it reached is lost.
            seconds: Time spent on the epoch.
        """
        self._trial_seconds += seconds
        if score is not None and (self._best is None or score > self._best[0]):
            self._best = score, number

    def note_end(self, score: float) -> None:
        """Count the end of a trial that didn't fail, with its best score."""
        if self._best_ended is None or score > self._best_ended:
            self._best_ended = score
            self._num_without_best = 0
        else:
            self._num_without_best += 1

    def is_time_up(self) -> bool:
        """Return whether hours have run out as of this moment, whatever else ended the search."""
        return self._hours_reached() is not None

    def would_stop_running(self) -> bool:
        """Return whether running trials stop, as of this moment; the ledger isn't told yet."""
        reached = self._reached_now()
        return self.stops_running or (reached is not None and reached.stops_running)

    def settle(self) -> ReachedBudget | None:
        """Note in the ledger that a budget is reached, if one is by now.

        Returns:
            The budget if that is new, so that it can be told.
        """
        if self.stops_running or (reached := self._reached_now()) is None:
            return None
        if self._reached is not None and not reached.stops_running:
            return None
        # Also after patience has run out: what runs still has to keep to the other budgets.
        self._ledger.set_fact(REACHED_FACT, asdict(reached))
        self._reached = reached
        return reached

    def _reached_now(self) -> ReachedBudget | None:
        search = self._search
        if search.target is not None and self._best is not None:
            score, number = self._best
            if score >= self._sign * search.target:
                value = format_metric(self._sign * score)
                found = f"trial {number} reached {search.metric} {value}"
                return _reached("target", search.target, found)
        if reached := self._hours_reached():
            return reached
        if search.patience is not None and self._num_without_best >= search.patience:
            found = f"{self._num_without_best} trials in a row brought no new best"
            return _reached("patience", search.patience, found)
        return None

    def _hours_reached(self) -> ReachedBudget | None:
        search = self._search
        spent = self._earlier_seconds + max(self._clock() - self._started, 0.0)
        if search.max_hours is not None and spent >= search.max_hours * 3600:
            return _reached("max_hours", search.max_hours, f"it ran for {format_duration(spent)}")
        if search.max_trial_hours is not None and (
            self._trial_seconds >= search.max_trial_hours * 3600
        ):
            found = f"its trials trained for {format_duration(self._trial_seconds)}"
            return _reached("max_trial_hours", search.max_trial_hours, found)
        return None


def _reached(name: BudgetName, limit: float, found: str) -> ReachedBudget:
    return ReachedBudget(name=name, limit=limit, reason=f"{found}, and search.{name} is {limit:g}")


def run_seconds(starts: Sequence[float], moments: Sequence[float]) -> float:
    """Return how long a study's runs took together, the time between them excluded.

    A run lasts from its start to the last thing that its ledger noted of a trial: a killed process
    can't say when it ended.

    Args:
        starts: When each run began, in order.
        moments: When something was noted of a trial.
    """
    total = 0.0
    for start, end in pairwise([*starts, math.inf]):
        total += max((moment - start for moment in moments if start <= moment < end), default=0.0)
    return total
