"""Optuna's samplers, each asked about a study that is made of what was told (imports optuna)."""

import copy
import random
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from typing import cast

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from search.algorithms.interface import Point
from search.algorithms.learning import History, Told, count_as_completed
from search.optuna_trials import STATES, distribution_of, stored_value
from spaces.parameters import (
    Ordinal,
    Parameter,
    Uniform,
    Value,
)
from spaces.space import Space


class SamplerProposer:
    """Asks a new sampler, seeded for this one point, about a study of what was told."""

    def __init__(
        self,
        space: Space,
        build_sampler: Callable[[int], BaseSampler],
        num_startup: int,
        num_costs: int = 0,
    ) -> None:
        """Know no trial yet.

        Args:
            space: Where points lie.
            build_sampler: From a seed to a sampler.
            num_startup: Trials with a score before which the sampler draws at random.
            num_costs: Objectives beside the score.
        """
        maximize, minimize = (
            optuna.study.StudyDirection.MAXIMIZE,
            optuna.study.StudyDirection.MINIMIZE,
        )
        self._directions = [maximize, *[minimize] * num_costs]
        self._space = space
        self._build_sampler = build_sampler
        self._num_startup = num_startup
        self._distributions = {
            name: distribution_of(parameter) for name, parameter in space.parameters.items()
        }
        self._known: dict[int, tuple[Told, FrozenTrial]] = {}

    def propose(self, history: History, seed: int, decided: Mapping[str, Value]) -> Point:
        """Return the point that the sampler suggests, with what is decided already left so.

        Optuna's samplers know of no prior, neither in their first random draws nor later. So where
        there are some, the space draws in place of the former.
        """
        # WARNING would tell of greenlet, without which GPSampler works too, and of samplers that
        # draw conditional parameters by themselves.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        trials = [self._frozen(number, told) for number, told in history.items()]
        if self._space.expected() and _num_scored(trials) < self._num_startup:
            rng = random.Random(seed)
            return self._space.walk(
                lambda name, parameter: decided[name] if name in decided else parameter.sample(rng)
            )
        study = optuna.create_study(
            storage=_ToldTrials(trials),
            directions=self._directions,
            sampler=self._build_sampler(seed),
        )
        trial = study.ask()
        return self._space.walk(
            lambda name, parameter: (
                decided[name] if name in decided else self._suggest(trial, name, parameter)
            )
        )

    def _frozen(self, number: int, told: Told) -> FrozenTrial:
        known = self._known.get(number)
        if known is None or known[0] != told:
            stored = {
                name: stored_value(self._space.parameters[name], value)
                for name, value in told.point.items()
            }
            frozen = _freeze(number, told, stored, self._distributions)
            known = self._known[number] = (told, frozen)
        return known[1]

    def _suggest(self, trial: optuna.Trial, name: str, parameter: Parameter) -> Value:
        distribution = self._distributions[name]
        if isinstance(distribution, CategoricalDistribution):
            return cast(Value, trial.suggest_categorical(name, distribution.choices))
        low, high = distribution.low, distribution.high
        if isinstance(distribution, IntDistribution):
            whole = trial.suggest_int(
                name, int(low), int(high), step=distribution.step, log=distribution.log
            )
            return parameter.options[whole] if isinstance(parameter, Ordinal) else whole
        number = trial.suggest_float(name, low, high, step=distribution.step, log=distribution.log)
        # Optuna's own steps are sums of floats: 0.15000000000000002.
        return parameter.nearest(number) if isinstance(parameter, Uniform) else number


def _num_scored(trials: Sequence[FrozenTrial]) -> int:
    """Count the trials that Optuna's samplers count before they learn."""
    return sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)


class _ToldTrials(optuna.storages.InMemoryStorage):
    """A storage whose study has, beside the trial that is asked for, those that were told.

    ``Study.add_trial`` copies each trial deeply, which for a thousand of them takes far longer than
    TPE itself. Samplers only read them.
    """

    def __init__(self, told: list[FrozenTrial]) -> None:
        super().__init__()
        self._told = told

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials that were told, after the one that is asked for, which is number 0."""
        told = [trial for trial in self._told if states is None or trial.state in states]
        return [
            *super().get_all_trials(study_id, deepcopy=deepcopy, states=states),
            *(copy.deepcopy(told) if deepcopy else told),
        ]


def _freeze(
    number: int,
    told: Told,
    params: Mapping[str, Value],
    distributions: Mapping[str, BaseDistribution],
) -> FrozenTrial:
    state = STATES[told.outcome]
    if state in (TrialState.COMPLETE, TrialState.PRUNED) and not told.has_score:
        state = TrialState.FAIL
    trial = optuna.trial.create_trial(
        state=state,
        values=None if state != TrialState.COMPLETE else [_finite(told.score), *told.costs],
        params=dict(params),
        distributions={name: distributions[name] for name in params},
        intermediate_values=dict(told.scores),
    )
    # Number 0 is the trial that is asked for.
    trial.number = number + 1
    return trial


def _finite(score: float | None) -> float:
    assert score is not None
    return score


def tpe_proposer(
    space: Space, num_startup: int, num_costs: int = 0
) -> Callable[[History, int], Point]:
    """Tree-structured Parzen estimator, over all parameters jointly.

    Trials that still run count as bad (constant liar), stopped ones as pruned with all their
    scores; failed ones teach nothing. With several objectives the good trials are those of the
    first fronts, and a stopped trial counts as complete: Optuna prunes for one objective alone.

    Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization",
    https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization; Watanabe 2023,
    https://arxiv.org/abs/2304.11127
    """
    conditional = any(parameter.when for parameter in space.parameters.values())

    def build(seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            # Conditions need group=True, which Optuna calls experimental.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return TPESampler(seed=seed, n_startup_trials=num_startup, group=conditional)

    proposer = SamplerProposer(space, build, num_startup, num_costs)
    judge = count_as_completed if num_costs else dict
    return lambda history, seed: proposer.propose(judge(history), seed, {})


def gp_proposer(space: Space, num_startup: int) -> Callable[[History, int], Point]:
    """Gaussian process with a Matern kernel, asked for the logarithm of expected improvement.

    Trials that still run are averaged over (q-batch), so that trials of the same moment keep apart.
    Conditional parameters are drawn by a TPE, each by itself: there is no distance between a point
    that has one and a point that doesn't.

    Snoek et al. 2012, "Practical Bayesian Optimization of Machine Learning Algorithms",
    https://arxiv.org/abs/1206.2944; Ament et al. 2023, "Unexpected Improvements to Expected
    Improvement", https://arxiv.org/abs/2310.20708
    """

    def build(seed: int) -> BaseSampler:
        return GPSampler(
            seed=seed,
            n_startup_trials=num_startup,
            independent_sampler=univariate_tpe(seed, num_startup),
            warn_independent_sampling=False,
        )

    proposer = SamplerProposer(space, build, num_startup)
    return lambda history, seed: proposer.propose(count_as_completed(history), seed, {})


def univariate_tpe(seed: int, num_startup: int) -> BaseSampler:
    """Build a TPE that decides each parameter by itself."""
    return TPESampler(seed=seed, n_startup_trials=num_startup, multivariate=False)
