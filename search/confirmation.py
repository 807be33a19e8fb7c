"""The best trials and the default, trained again with other seeds: what was skill, what luck."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search.algorithms.distinct import effective_key
from search.leaderboard import Standing, leaderboard, pareto_front
from search.study_config import StudyConfig
from search.trial_record import TrialRecord
from trainables.metrics import METRICS

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeat:
    """A trial that is to be trained again."""

    number: int
    """The trial of the search."""
    seed: int
    """The other seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Confirmed:
    """A configuration that was trained again."""

    found: Standing
    """Its trial in the search, with the rank and the value by which it was picked."""
    repeats: tuple[Standing, ...]
    """Its other trainings that ran to their end, the best first."""

    @property
    def values(self) -> tuple[float, ...]:
        """The metric that each of those reached."""
        return tuple(repeat.value for repeat in self.repeats)

    @property
    def mean(self) -> float:
        """Their mean."""
        return float(np.mean(self.values))


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """How far two configurations are apart."""

    value: float
    """Mean of the one minus mean of the other."""
    half_interval: float | None
    """Half its 95 % interval over seeds; None where no configuration was trained again twice."""

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.half_interval is not None and abs(self.value) > self.half_interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Confirmation:
    """What training again said.

    Intervals are Student's, with the spread over seeds of all configurations taken together: near
    each other they have much the same one, and two seeds alone say little of it.
    """

    ranked: tuple[Confirmed, ...]
    """The configurations, the best mean first."""
    default: Confirmed | None
    """The default configuration, if it is among them."""

    @property
    def best(self) -> Confirmed:
        """The configuration with the best mean."""
        return self.ranked[0]

    @property
    def first_found(self) -> Confirmed:
        """The one that the search had ranked highest."""
        return min(self.ranked, key=lambda confirmed: confirmed.found.rank)

    def half_interval(self, confirmed: Confirmed) -> float | None:
        """Return half the 95 % interval of a mean; None where nothing was trained again twice."""
        return self._half(1 / len(confirmed.values))

    def difference(self, left: Confirmed, right: Confirmed) -> Difference:
        """Compare two configurations."""
        half = self._half(1 / len(left.values) + 1 / len(right.values))
        return Difference(value=left.mean - right.mean, half_interval=half)

    def _half(self, parts: float) -> float | None:
        from scipy import stats

        degrees = sum(len(confirmed.values) - 1 for confirmed in self.ranked)
        if not degrees:
            return None
        squares = sum(
            (value - confirmed.mean) ** 2 for confirmed in self.ranked for value in confirmed.values
        )
        quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees))
        return quantile * math.sqrt(squares / degrees * parts)


def missing_repeats(trials: Sequence[TrialRecord], config: StudyConfig) -> list[Repeat]:
    """Return what is still to be trained again, in the order in which that should be done.

    Args:
        trials: Those of the search, which is over, and those that were trained again already,
            however that ended.
        config: The study; says how many trials, and how often.
    """
    search, metric = config.search, METRICS[config.search.metric]
    found = [trial for trial in trials if trial.repeats is None]
    ranked = leaderboard(found, metric.name, higher_is_better=metric.higher_is_better)
    over = [standing for standing in ranked if standing.trial.state != "running"]
    ended = [standing.trial for standing in over]
    if search.objectives:
        over = pareto_front(over, search.objectives, higher_is_better=metric.higher_is_better)
    chosen = [standing.trial for standing in over[: search.confirm_trials]]
    # With one trial there is nothing to choose between.
    if len(ended) < 2 or not chosen:
        return []
    chosen += [trial for trial in ended if is_default(trial, config)]
    numbers = dict.fromkeys(trial.number for trial in chosen)
    done = {(trial.repeats, trial.config.seed) for trial in trials}
    # All with one seed before any with the next: what is cut short is even.
    return [
        Repeat(number=number, seed=seed)
        for seed in other_seeds(config)
        for number in numbers
        if (number, seed) not in done
    ]


def other_seeds(config: StudyConfig) -> list[int]:
    """Return the seeds with which trials are trained again."""
    search = config.search
    return [(search.seed + place) % 2**63 for place in range(1, search.confirm_seeds + 1)]


def is_default(trial: TrialRecord, config: StudyConfig) -> bool:
    """Tell whether a trial has the default configuration."""
    default = config.default_point()
    return default is not None and effective_key(default) == effective_key(trial.params)


def find_confirmation(trials: Sequence[TrialRecord], config: StudyConfig) -> Confirmation | None:
    """Compare the configurations that were trained again.

    Args:
        trials: Those of the search, and those that were trained again.
        config: The study.

    Returns:
        None where none has been, to its end.
    """
    metric = METRICS[config.search.metric]

    def rank(some: Iterable[TrialRecord]) -> list[Standing]:
        return leaderboard(list(some), metric.name, higher_is_better=metric.higher_is_better)

    found = rank(trial for trial in trials if trial.repeats is None)
    again = rank(trial for trial in trials if trial.repeats is not None and trial.is_whole)
    confirmed = []
    for standing in found:
        own = tuple(repeat for repeat in again if repeat.trial.repeats == standing.trial.number)
        if own:
            confirmed.append(Confirmed(found=standing, repeats=own))
    if not confirmed:
        return None
    sign = 1 if metric.higher_is_better else -1
    confirmed.sort(key=lambda candidate: (-sign * candidate.mean, candidate.found.rank))
    return Confirmation(
        ranked=tuple(confirmed),
        default=next((c for c in confirmed if is_default(c.found.trial, config)), None),
    )


def default_checkpoint(trials: Sequence[TrialRecord], config: StudyConfig) -> Path | None:
    """Return the best checkpoint of the default configuration, trained again, if it is there."""
    confirmation = find_confirmation(trials, config)
    if confirmation is None or confirmation.default is None:
        return None
    kept = filter(_has_checkpoint, confirmation.default.repeats)
    return next((repeat.checkpoint.path for repeat in kept if repeat.checkpoint), None)


def choose_winners(
    found: Sequence[Standing], confirmation: Confirmation | None, num_winners: int
) -> list[Standing]:
    """Return the trainings to compress: ended, their best checkpoint still there, best first.

    Args:
        found: The leaderboard of the search.
        confirmation: Decides, if there is one: of each configuration the best training is taken.
        num_winners: How many at most.
    """
    if confirmation is not None:
        candidates = [
            next(filter(_has_checkpoint, confirmed.repeats), None)
            for confirmed in confirmation.ranked
        ]
        if winners := [winner for winner in candidates if winner is not None]:
            return winners[:num_winners]
    ended = [s for s in found if s.trial.state in ("completed", "stopped") and _has_checkpoint(s)]
    return ended[:num_winners]


def _has_checkpoint(standing: Standing) -> bool:
    return standing.checkpoint is not None and standing.checkpoint.path.is_dir()
