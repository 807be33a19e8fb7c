"""How much each hyperparameter mattered, by PED-ANOVA (imports optuna when asked)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.trial_record import TrialRecord
from spaces.space import Space
from trainables.metrics import Metric

MIN_TRIALS = 10
"""Trials below which nothing is said: a few say more of chance than of a hyperparameter."""
MIN_BEST = 5
"""Trials that count as the best ones, at least."""
BEST_SHARE = 0.1
"""Share of the trials that count so, if that are as many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Importances:
    """What decided whether a trial is among the best."""

    shares: Mapping[str, float]
    """By hyperparameter, the most important one first; they add up to 1."""
    num_trials: int
    """Trials that this rests on."""
    num_best: int
    """How many of them count as the best."""


def measure_importances(
    trials: Sequence[TrialRecord], space: Space, metric: Metric
) -> Importances | None:
    """Measure by how much each hyperparameter's values differ between the best trials and all.

    PED-ANOVA, Watanabe et al. 2023, https://arxiv.org/abs/2304.10255. A trial counts with its best
    epoch, also one that was stopped early: it was stopped for not being among the best.

    Returns:
        None with fewer than :data:`MIN_TRIALS` trials, or none better than the others, or none
        different.
    """
    reached = [
        (trial, report.metrics[metric.name])
        for trial in trials
        if trial.state in ("completed", "stopped")
        and (report := trial.best_report(metric.name, higher_is_better=metric.higher_is_better))
    ]
    varied = [
        name
        for name, parameter in space.parameters.items()
        if parameter.choices is None or len(parameter.choices) > 1
    ]
    # One that only exists under conditions may have been in no trial.
    varied = [name for name in varied if any(name in trial.params for trial, _ in reached)]
    if len(reached) < MIN_TRIALS or len({value for _, value in reached}) < 2 or not varied:
        return None
    num_best = max(MIN_BEST, round(BEST_SHARE * len(reached)))
    found = _evaluate(reached, space, metric, varied, num_best / len(reached))
    total = sum(found.values())
    if not total > 0:
        return None
    shares = {name: value / total for name, value in found.items()}
    ranked = dict(sorted(shares.items(), key=lambda pair: (-pair[1], pair[0])))
    return Importances(shares=ranked, num_trials=len(reached), num_best=num_best)


def _evaluate(
    reached: Sequence[tuple[TrialRecord, float]],
    space: Space,
    metric: Metric,
    varied: list[str],
    quantile: float,
) -> dict[str, float]:
    import warnings

    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    from search.optuna_trials import freeze_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize" if metric.higher_is_better else "minimize")
    study.add_trials(
        [
            freeze_trial(
                trial, space, metric.name, state=optuna.trial.TrialState.COMPLETE, value=value
            )
            for trial, value in reached
        ]
    )
    with warnings.catch_warnings():
        # That it is experimental, and of parameters that few trials have.
        warnings.simplefilter("ignore")
        evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
        return get_param_importances(study, evaluator=evaluator, params=varied, normalize=False)
