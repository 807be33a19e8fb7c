"""A space and a study's trials as Optuna knows them (imports optuna)."""

from collections.abc import Mapping

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from search.trial_record import TrialRecord
from spaces.parameters import (
    Choice,
    Grid,
    IntRange,
    LogIntRange,
    LogUniform,
    Ordinal,
    Parameter,
    Value,
)
from spaces.space import Space

STATES: Mapping[str, TrialState] = {
    "running": TrialState.RUNNING,
    "completed": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
"""How Optuna calls what became of a trial."""


def distribution_of(
    parameter: Parameter,
) -> CategoricalDistribution | IntDistribution | FloatDistribution:
    """Return what a parameter's values are drawn from."""
    if isinstance(parameter, Choice | Grid):
        return CategoricalDistribution(parameter.options)
    if isinstance(parameter, Ordinal):
        # Optuna knows no ordered choices: their places.
        return IntDistribution(0, len(parameter.options) - 1)
    if isinstance(parameter, LogIntRange):
        return IntDistribution(parameter.low, parameter.high, log=True)
    low, high = parameter.extremes()
    if isinstance(parameter, IntRange):
        return IntDistribution(int(low), int(high), step=parameter.step)
    if isinstance(parameter, LogUniform):
        return FloatDistribution(low, high, log=True)
    return FloatDistribution(low, high, step=parameter.step)


def stored_value(parameter: Parameter, value: Value) -> Value:
    """Return what stands for a parameter's value in Optuna."""
    return parameter.options.index(value) if isinstance(parameter, Ordinal) else value


def freeze_trial(
    trial: TrialRecord, space: Space, metric: str, *, state: TrialState, value: float | None
) -> FrozenTrial:
    """Write a trial as Optuna would have recorded it.

    Args:
        trial: The trial.
        space: Its study's.
        metric: What is optimized; its value after each epoch becomes an intermediate value.
        state: How it ended.
        value: What it reached, for a complete one.
    """
    distributions: dict[str, BaseDistribution] = {
        name: distribution_of(space.parameters[name]) for name in trial.params
    }
    attributes = {"trial": trial.number, "config_hash": trial.config_hash}
    if trial.continues is not None:
        attributes["continues"] = trial.continues.number
        attributes["continues_from_epoch"] = trial.continues.epoch
    if trial.error:
        attributes["error"] = trial.error
    return optuna.trial.create_trial(
        state=state,
        value=value,
        params={name: stored_value(space.parameters[name], v) for name, v in trial.params.items()},
        distributions=distributions,
        intermediate_values={
            report.epoch: report.metrics[metric]
            for report in trial.reports
            if metric in report.metrics
        },
        user_attrs=attributes,
    )
