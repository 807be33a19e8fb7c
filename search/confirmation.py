"""The best trials and the default, trained again with other seeds: what was skill, what luck."""

import math
from collections.abc import Sequence
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
    num_failed: int = 0
    """Those that failed."""

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


def choose_configurations(trials: Sequence[TrialRecord], config: StudyConfig) -> list[Standing]:
    """Return what is to be trained again: the best trials of the search, and the default.

    At least as many as become bundles, and with several objectives those of the front.

    Args:
        trials: Those of the search, which is over, and any others.
        config: The study.
    """
    search, metric = config.search, METRICS[config.search.metric]
    found = [trial for trial in trials if trial.repeats is None and trial.state != "running"]
    ranked = leaderboard(found, metric.name, higher_is_better=metric.higher_is_better)
    # With one trial there is nothing to choose between.
    if not search.confirm_trials or len(ranked) < 2:
        return []
    best = ranked
    if search.objectives:
        best = pareto_front(ranked, search.objectives, higher_is_better=metric.higher_is_better)
    chosen = best[: max(search.confirm_trials, config.winners)]
    default = find_default(ranked, config)
    if default is not None and default not in chosen:
        chosen.append(default)
    return chosen


def missing_repeats(trials: Sequence[TrialRecord], config: StudyConfig) -> list[Repeat]:
    """Return what is still to be trained again, in the order in which that should be done.

    Args:
        trials: Those of the search, which is over, and those that were trained again already. Of
            these, one that was stopped for want of time is trained anew; one that failed isn't.
        config: The study; says how many trials, and how often.
    """
    done = {(t.repeats, t.config.seed) for t in trials if t.state != "stopped"}
    chosen = choose_configurations(trials, config)
    # All with one seed before any with the next: what is cut short is even.
    return [
        Repeat(number=standing.trial.number, seed=seed)
        for seed in other_seeds(config)
        for standing in chosen
        if (standing.trial.number, seed) not in done
    ]


def other_seeds(config: StudyConfig) -> list[int]:
    """Return the seeds with which trials are trained again."""
    search = config.search
    return [(search.seed + place) % 2**63 for place in range(1, search.confirm_seeds + 1)]


def find_default(standings: Sequence[Standing], config: StudyConfig) -> Standing | None:
    """Return the trial that has the default configuration, if one does."""
    default = config.default_point()
    if default is None:
        return None
    key = effective_key(default)
    return next((s for s in standings if effective_key(s.trial.params) == key), None)


def find_confirmation(trials: Sequence[TrialRecord], config: StudyConfig) -> Confirmation | None:
    """Compare the configurations that were trained again.

    Only seeds count with which all of them were, so that none is judged by fewer or by luckier ones
    than the others; one that failed with such a seed comes last.

    Args:
        trials: Those of the search, and those that were trained again.
        config: The study.

    Returns:
        None where no seed is complete.
    """
    metric = METRICS[config.search.metric]
    chosen = choose_configurations(trials, config)
    again = [trial for trial in trials if trial.repeats is not None]
    ended = {(t.repeats, t.config.seed) for t in again if t.state in ("completed", "failed")}
    seeds = {
        seed
        for seed in other_seeds(config)
        if all((standing.trial.number, seed) in ended for standing in chosen)
    }
    whole = [trial for trial in again if trial.is_whole and trial.config.seed in seeds]
    ranked = leaderboard(whole, metric.name, higher_is_better=metric.higher_is_better)
    confirmed = []
    for standing in chosen:
        own = tuple(repeat for repeat in ranked if repeat.trial.repeats == standing.trial.number)
        if own:
            num_failed = len(seeds) - len(own)
            confirmed.append(Confirmed(found=standing, repeats=own, num_failed=num_failed))
    if not confirmed:
        return None
    sign = 1 if metric.higher_is_better else -1
    confirmed.sort(key=lambda c: (c.num_failed > 0, -sign * c.mean, c.found.rank))
    default = find_default([c.found for c in confirmed], config)
    return Confirmation(
        ranked=tuple(confirmed),
        default=next((c for c in confirmed if c.found is default), None),
    )


def default_checkpoint(trials: Sequence[TrialRecord], config: StudyConfig) -> Path | None:
    """Return the best checkpoint of the default configuration, trained again, if it is there."""
    confirmation = find_confirmation(trials, config)
    if confirmation is None or confirmation.default is None:
        return None
    kept = filter(_has_checkpoint, confirmation.default.repeats)
    return next((repeat.checkpoint.path for repeat in kept if repeat.checkpoint), None)


def choose_winners(trials: Sequence[TrialRecord], config: StudyConfig) -> list[Standing]:
    """Return the trainings to compress: ended, their best checkpoint still there, best first.

    If the best were trained again, their means decide, and of each the best training is taken; else
    the search's own values do, with several objectives those of the front.

    Args:
        trials: Those of the search, and those that were trained again.
        config: The study.
    """
    metric, search = METRICS[config.search.metric], config.search
    confirmation = find_confirmation(trials, config)
    if confirmation is not None:
        candidates = [
            next(filter(_has_checkpoint, confirmed.repeats), None)
            for confirmed in confirmation.ranked
        ]
        if winners := [winner for winner in candidates if winner is not None]:
            return winners[: config.winners]
    found = [t for t in trials if t.repeats is None and t.state in ("completed", "stopped")]
    ranked = leaderboard(found, metric.name, higher_is_better=metric.higher_is_better)
    if search.objectives:
        ranked = pareto_front(ranked, search.objectives, higher_is_better=metric.higher_is_better)
    return list(filter(_has_checkpoint, ranked))[: config.winners]


def _has_checkpoint(standing: Standing) -> bool:
    return standing.checkpoint is not None and standing.checkpoint.path.is_dir()


def means_of(confirmation: Confirmation | None) -> dict[int, float]:
    """Return the mean of each configuration that was trained again, by each of its trainings."""
    if confirmation is None:
        return {}
    return {
        repeat.trial.number: confirmed.mean
        for confirmed in confirmation.ranked
        for repeat in confirmed.repeats
    }
