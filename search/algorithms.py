"""grid | random | Bayesian, behind one interface: which point comes next."""

import hashlib
import itertools
import json
import math
import random
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, cast

from search.study_config import AlgorithmName
from spaces.parameters import (
    Choice,
    IntRange,
    LogIntRange,
    LogUniform,
    Ordinal,
    Parameter,
    Value,
)
from spaces.space import Space
from spaces.trial_config import TrialConfig

if TYPE_CHECKING:
    import optuna

Point = dict[str, Value]
"""Values of the active parameters, by name."""

Outcome = Literal["running", "completed", "stopped", "failed"]
"""What an algorithm learns of a trial's end; a stopped one counts with what it reported."""

ATTEMPTS = 64
"""Draws of one point before a new one is looked for among all that are left."""

PROPOSALS, CONSTRAINED_PROPOSALS = 4, 16
"""Proposals of TPE, which knows of no constraints, before a random point takes their place."""

LARGEST_ENUMERATION = 100_000
"""Points of a finite space that are looked through for one that wasn't tried."""


class Algorithm(Protocol):
    """Proposes points. Higher scores are better; the caller turns the sign of a loss.

    Point n depends on the seed, on n, and on what was told before, on nothing else: an algorithm
    that is told the same again after a restart continues as if it had never stopped.
    """

    def ask(self, number: int) -> Point | None:
        """Return the point of trial ``number``; None when no new point is left.

        Trials are asked for in the order of their numbers, each once.
        """

    def adopt(self, number: int, point: Point) -> None:
        """Note a point that was asked for before a restart, in place of asking for it."""

    def tell_report(self, number: int, epoch: int, score: float) -> None:
        """Note the score of a running trial after an epoch."""

    def tell(self, number: int, outcome: Outcome, score: float | None) -> None:
        """Note how a trial ended, with its final score if it has one."""


def effective_key(point: Mapping[str, Value]) -> str:
    """Identify what a point makes of a trial: equal keys train equal models."""
    config = TrialConfig(**point)  # type: ignore[arg-type]
    return json.dumps(config.effective(), sort_keys=True)


def derive_seed(*parts: object) -> int:
    """Return a seed of 32 bits that depends on every part, and on nothing of this process."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _new_point(space: Space, seen: set[str], rng: random.Random) -> Point | None:
    """Draw a point whose effective configuration is not in ``seen``; None if all are."""
    for _ in range(ATTEMPTS):
        point = space.sample(rng)
        if effective_key(point) not in seen:
            return point
    if space.continuous():
        # Only parameters that the trial ignores can still differ, so the rest is exhausted.
        return None
    left = [
        point
        for point in itertools.islice(space.enumerate(), LARGEST_ENUMERATION)
        if effective_key(point) not in seen
    ]
    return rng.choice(left) if left else None


class GridSearch:
    """Every point in order, the last parameter fastest; points that train the same model once."""

    def __init__(self, space: Space) -> None:
        self._points = space.enumerate()
        self._seen: set[str] = set()

    def ask(self, number: int) -> Point | None:
        """Return the first point of the grid that was neither returned nor adopted."""
        for point in self._points:
            if effective_key(point) not in self._seen:
                self.adopt(number, point)
                return point
        return None

    def adopt(self, number: int, point: Point) -> None:
        """Note that a point was tried: the study may have begun elsewhere than at the first."""
        self._seen.add(effective_key(point))

    def tell_report(self, number: int, epoch: int, score: float) -> None:
        """Do nothing: a grid doesn't learn."""

    def tell(self, number: int, outcome: Outcome, score: float | None) -> None:
        """Do nothing: a grid doesn't learn."""


class RandomSearch:
    """Independent draws (Bergstra and Bengio 2012), none of which trains the same model twice."""

    def __init__(self, space: Space, *, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._seen: set[str] = set()

    def ask(self, number: int) -> Point | None:
        """Draw point ``number``; it differs from those before it."""
        rng = random.Random(derive_seed(self._seed, number))
        point = _new_point(self._space, self._seen, rng)
        if point is not None:
            self._seen.add(effective_key(point))
        return point

    def adopt(self, number: int, point: Point) -> None:
        """Note that a point was drawn."""
        self._seen.add(effective_key(point))

    def tell_report(self, number: int, epoch: int, score: float) -> None:
        """Do nothing: draws are independent."""

    def tell(self, number: int, outcome: Outcome, score: float | None) -> None:
        """Do nothing: draws are independent."""


@dataclass(kw_only=True, slots=True)
class _Told:
    """What TPE knows of a trial."""

    point: Point
    outcome: Outcome = "running"
    score: float | None = None
    scores: dict[int, float] = field(default_factory=dict)


class TpeSearch:
    """Tree-structured Parzen estimator (Bergstra et al. 2011), Optuna's.

    Each ask builds Optuna's study anew from what was told, so there is no state to lose. Trials
    that still run count as bad (constant liar), stopped ones as pruned with all their scores.
    """

    def __init__(self, space: Space, *, seed: int, num_startup: int) -> None:
        self._space = space
        self._seed = seed
        self._num_startup = num_startup
        self._told: dict[int, _Told] = {}

    def ask(self, number: int) -> Point | None:
        """Propose the point that promises most, among those that weren't tried."""
        seen = {effective_key(told.point) for told in self._told.values()}
        point: Point | None = None
        for attempt in range(CONSTRAINED_PROPOSALS if self._space.constraints else PROPOSALS):
            point = self._propose(derive_seed(self._seed, number, attempt))
            if self._space.allows(point) and effective_key(point) not in seen:
                break
        else:
            rng = random.Random(derive_seed(self._seed, number))
            point = _new_point(self._space, seen, rng)
        if point is not None:
            self.adopt(number, point)
        return point

    def _propose(self, seed: int) -> Point:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        conditional = any(p.when for p in self._space.parameters.values())
        with warnings.catch_warnings():
            # Conditions need group=True, which Optuna calls experimental.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=self._num_startup, group=conditional
            )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials([self._frozen(self._told[number]) for number in sorted(self._told)])
        trial = study.ask()
        return self._space.walk(lambda name, parameter: _suggest(trial, name, parameter))

    def _frozen(self, told: _Told) -> "optuna.trial.FrozenTrial":
        import optuna

        states = optuna.trial.TrialState
        distributions = {name: _distribution(self._space.parameters[name]) for name in told.point}
        value = told.score
        state = {
            "running": states.RUNNING,
            "completed": states.COMPLETE,
            "stopped": states.PRUNED,
            "failed": states.FAIL,
        }[told.outcome]
        if state in (states.COMPLETE, states.PRUNED) and not _is_finite(value):
            state = states.FAIL
        return optuna.trial.create_trial(
            state=state,
            value=value if state == states.COMPLETE else None,
            params={
                name: _stored(self._space.parameters[name], value)
                for name, value in told.point.items()
            },
            distributions=distributions,
            intermediate_values=dict(told.scores),
        )

    def adopt(self, number: int, point: Point) -> None:
        """Note that a point is being tried."""
        self._told[number] = _Told(point=point)

    def tell_report(self, number: int, epoch: int, score: float) -> None:
        """Note a running trial's score; what isn't finite teaches nothing."""
        if _is_finite(score):
            self._told[number].scores[epoch] = score

    def tell(self, number: int, outcome: Outcome, score: float | None) -> None:
        """Note how a trial ended."""
        self._told[number].outcome = outcome
        self._told[number].score = score


def _is_finite(score: float | None) -> bool:
    return score is not None and math.isfinite(score)


def _distribution(parameter: Parameter) -> "optuna.distributions.BaseDistribution":
    from optuna import distributions

    if isinstance(parameter, Choice):
        return distributions.CategoricalDistribution(parameter.options)
    if isinstance(parameter, Ordinal):
        return distributions.IntDistribution(0, len(parameter.options) - 1)
    if isinstance(parameter, IntRange):
        low, high = parameter.extremes()
        return distributions.IntDistribution(low, high, step=parameter.step)
    if isinstance(parameter, LogIntRange):
        return distributions.IntDistribution(parameter.low, parameter.high, log=True)
    if isinstance(parameter, LogUniform):
        return distributions.FloatDistribution(parameter.low, parameter.high, log=True)
    low_end, high_end = parameter.extremes()
    return distributions.FloatDistribution(low_end, high_end, step=parameter.step)


def _stored(parameter: Parameter, value: Value) -> Value:
    """Return what stands for a value in Optuna, which knows no ordered choices: its index."""
    return parameter.options.index(value) if isinstance(parameter, Ordinal) else value


def _suggest(trial: "optuna.Trial", name: str, parameter: Parameter) -> Value:
    if isinstance(parameter, Choice):
        return cast(Value, trial.suggest_categorical(name, parameter.options))
    if isinstance(parameter, Ordinal):
        return parameter.options[trial.suggest_int(name, 0, len(parameter.options) - 1)]
    if isinstance(parameter, IntRange):
        low, high = parameter.extremes()
        return trial.suggest_int(name, low, high, step=parameter.step)
    if isinstance(parameter, LogIntRange):
        return trial.suggest_int(name, parameter.low, parameter.high, log=True)
    if isinstance(parameter, LogUniform):
        return trial.suggest_float(name, parameter.low, parameter.high, log=True)
    low_end, high_end = parameter.extremes()
    # Optuna's own steps are sums of floats: 0.15000000000000002.
    return parameter.nearest(trial.suggest_float(name, low_end, high_end, step=parameter.step))


def _build_grid(space: Space, seed: int, num_trials: int) -> Algorithm:
    return GridSearch(space)


def _build_random(space: Space, seed: int, num_trials: int) -> Algorithm:
    return RandomSearch(space, seed=seed)


def _build_tpe(space: Space, seed: int, num_trials: int) -> Algorithm:
    # Optuna's 10 random points, but no more than a third of a short study.
    return TpeSearch(space, seed=seed, num_startup=max(4, min(10, num_trials // 3)))


ALGORITHMS: dict[AlgorithmName, Callable[[Space, int, int], Algorithm]] = {
    "grid": _build_grid,
    "random": _build_random,
    "tpe": _build_tpe,
}
"""Algorithms by name; each is built from the space, the seed and the number of trials."""
