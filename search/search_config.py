"""A study file's section search: which trials run, for how long, and what ends the search early."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from spaces.parameters import Value

AlgorithmName = Literal["grid", "random", "sobol", "tpe", "gp", "cmaes", "nsga2"]
SchedulerName = Literal["none", "asha", "hyperband", "median", "pbt"]

ObjectiveName = Literal["latency_ms", "size_mb", "train_seconds"]
"""What a search may keep low beside its metric."""

SINGLE_OBJECTIVE: tuple[AlgorithmName | SchedulerName, ...] = (
    "gp",
    "cmaes",
    "hyperband",
    "median",
    "pbt",
)
"""Algorithms and schedulers that know one objective alone."""

TAKES_GRIDS: tuple[AlgorithmName, ...] = ("grid", "random", "sobol")
"""Algorithms for which a parameter may be a grid: those that learn decide every value."""

SCHEDULER_SETTINGS: dict[SchedulerName, tuple[str, ...]] = {
    "none": (),
    "asha": ("grace_epochs", "reduction_factor"),
    "hyperband": ("grace_epochs", "reduction_factor", "brackets"),
    "median": ("grace_epochs", "min_peers"),
    "pbt": ("perturbation_epochs", "exploit_fraction"),
}
"""Which settings each scheduler reads; the others have no effect on it."""

SMALLEST_POPULATION = 4
"""Members of which a quarter is one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """Which trials run, and for how long."""

    algorithm: AlgorithmName = "tpe"
    """grid: every point in order; random: independent draws; sobol: draws that fill the space
    evenly; tpe: Bayesian (Bergstra et al. 2011, through Optuna); gp: Bayesian by a Gaussian
    process, for few and long trials; cmaes: an evolution strategy, for many trials over numbers;
    nsga2: a genetic algorithm, for several objectives and many trials (Deb et al. 2002)."""
    scheduler: SchedulerName = "asha"
    """none: every trial runs to its end; asha: successive halving (Li et al. 2020); hyperband: that
    in brackets of different grace epochs (Li et al. 2018); median: stops what is worse than the
    median of the others (Golovin et al. 2017); pbt: population based training (Jaderberg et al.
    2017), whose worst trials make room for copies of the best, trained on with other
    hyperparameters. With several objectives asha orders a rung by non-domination (Schmucker et al.
    2021)."""
    trials: int = 24
    """Trials of the study; a finite space may have fewer points. pbt: the members of the
    population, without those that take another one's place."""
    epochs: int = 3
    """Passes over the training rows of a trial that isn't stopped early."""
    metric: str = "roc_auc"
    """What is optimized, measured on the validation split."""
    objectives: tuple[ObjectiveName, ...] = ()
    """What is to be low beside it: latency_ms, one row of the exported model on one thread;
    size_mb, its file; train_seconds, of a whole trial at the speed of its epochs so far. The first
    two are measured once for each shape of model that the space has, untrained, in int8 and not
    pruned. The report shows the Pareto front; the metric chooses from it."""
    max_latency_ms: float | None = None
    """A trial whose model, measured so, takes longer isn't trained, and doesn't count as one. What
    a bundle may take is ``compression.max_latency_ms``."""
    max_size_mb: float | None = None
    """A trial whose model, measured so, is larger isn't trained, and doesn't count as one. What a
    bundle may take is ``compression.max_size_mb``."""
    seed: int = 0
    """Seeds the points and the trials."""
    reduction_factor: int = 2
    """asha, hyperband: one in this many trials goes on at each rung. With 3, trials that start
    slowly, as those of small adapters do, are stopped too early (docs/measurements.md)."""
    grace_epochs: int = 1
    """asha, hyperband, median: epochs that every trial gets."""
    brackets: int | None = None
    """hyperband: how many of its brackets are used, those with the fewest grace epochs first; None:
    all, up to the one that stops no trial."""
    min_peers: int = 5
    """median: other trials that must have reached an epoch before a trial is stopped after it."""
    perturbation_epochs: int = 1
    """pbt: epochs after which the members wait for each other, and the worst are replaced; and so
    on after as many again."""
    exploit_fraction: float = 0.25
    """pbt: share of the members that is replaced then, and share of the best that they are replaced
    by."""
    target: float | None = None
    """Value of the metric at which the search ends; running trials stop at their next report."""
    max_hours: float | None = None
    """Hours of wall time, over all runs of the study, after which the search ends; running trials
    stop at their next report, and none is trained again."""
    max_trial_hours: float | None = None
    """Hours of training, summed over all trials, after which the search ends; running trials stop
    at their next report, and none is trained again."""
    patience: int | None = None
    """Trials in a row that ended without a new best, after which no new one starts; running trials
    go on. A trial that failed doesn't count: it says nothing of what could be found."""
    start_from: tuple[Mapping[str, Value], ...] = ()
    """Points to try first, in this order, before the algorithm's own. What a point leaves out gets
    its default if the space has it, else its prior, the middle of its range, or the first of its
    choices."""
    warm_start: tuple[str, ...] = ()
    """Folders of earlier studies. The best points of each come first, after ``start_from``; tpe, gp
    and cmaes learn from all their trials on the same data; and a trial that one of them ran to its
    end, with equal settings, data, encoder, seed and software, is taken over instead of run, except
    with pbt, whose members have to wait for each other."""
    default_trial: bool = True
    """Whether the first trial after those of ``start_from`` is the default configuration:
    ClickTune's own values where the space has them, else a prior, the middle of a range, the first
    of the choices, or the most layers. What the search finds is measured against it. With pbt it is
    a member as the others, and is replaced if it is among the worst."""
    confirm_trials: int = 3
    """How many of the best trials (at least ``winners``), and the default, are trained again to
    their end with other seeds, once the search is over. Their means choose the winner: the best of
    many trials is also the luckiest. 0: none, and the search's own values choose; with pbt it has
    to be, because hyperparameters that change during training are no configuration to repeat."""
    confirm_seeds: int = 2
    """With how many other seeds; from 2 on there are intervals."""
    max_failures: int = 1
    """Times that a trial is tried again after it failed, from its last checkpoint."""
    max_epoch_minutes: float | None = None
    """Minutes that a trial may take for an epoch, its start included, before it counts as hanging:
    its process is ended and the trial has failed. None: trials are waited for without a limit."""
    checkpoint_budget_gb: float = 20.0
    """Disk space for checkpoints; beyond it the worst finished trials lose theirs."""

    def __post_init__(self) -> None:
        for name, least in (
            ("trials", 1),
            ("epochs", 1),
            ("reduction_factor", 2),
            ("grace_epochs", 1),
            ("brackets", 1),
            ("perturbation_epochs", 1),
            ("min_peers", 1),
            ("patience", 1),
            ("confirm_trials", 0),
            ("confirm_seeds", 1),
            ("max_failures", 0),
            ("seed", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"search.{name} must be at least {least}, got {value}")
        if self.seed >= 2**63:
            raise ValueError(f"search.seed must be below 2**63, got {self.seed}")
        for name in (
            "checkpoint_budget_gb",
            "max_hours",
            "max_trial_hours",
            "max_latency_ms",
            "max_size_mb",
            "max_epoch_minutes",
        ):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"search.{name} must be above 0, got {value}")
        if self._uses("grace_epochs") and self.grace_epochs > self.epochs:
            raise ValueError(
                f"search.grace_epochs is {self.grace_epochs}, but a trial has only "
                f"{self.epochs} epochs, so {self.scheduler} would never stop one; lower it, or "
                "write scheduler: none"
            )
        self._check_objectives()
        if not 0 < self.exploit_fraction <= 0.5:
            raise ValueError(
                f"search.exploit_fraction must be above 0 and at most 0.5, got "
                f"{self.exploit_fraction}; the replaced and those that replace them are different "
                "members"
            )
        if self.scheduler == "pbt":
            self._check_population()

    def _check_population(self) -> None:
        if self.trials < SMALLEST_POPULATION:
            raise ValueError(
                f"search.scheduler is pbt, whose population has at least {SMALLEST_POPULATION} "
                f"members, but search.trials is {self.trials}; raise it, or use scheduler asha"
            )
        if self.perturbation_epochs > self.epochs:
            raise ValueError(
                f"search.perturbation_epochs is {self.perturbation_epochs}, but a trial has only "
                f"{self.epochs} epochs, so pbt would never replace one; lower it, or write "
                "scheduler: none"
            )
        if self.confirm_trials:
            raise ValueError(
                f"search.confirm_trials is {self.confirm_trials}, but with scheduler pbt "
                "hyperparameters change during training, and training one configuration again "
                "doesn't repeat that; write confirm_trials: 0"
            )

    def _check_objectives(self) -> None:
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"search.objectives names one twice, got {list(self.objectives)}")
        for name, value in (("algorithm", self.algorithm), ("scheduler", self.scheduler)):
            if self.objectives and value in SINGLE_OBJECTIVE:
                fitting = "tpe or nsga2" if name == "algorithm" else "asha or none"
                raise ValueError(
                    f"search.{name} is {value}, which knows one objective, but search.objectives "
                    f"names {', '.join(self.objectives)} beside the metric; use {fitting}"
                )

    @property
    def needs_shape_costs(self) -> bool:
        """Whether the latency or the size of models has to be known before they are trained."""
        limits = (self.max_latency_ms, self.max_size_mb)
        return bool({"latency_ms", "size_mb"} & set(self.objectives)) or limits != (None, None)

    def _uses(self, setting: str) -> bool:
        return setting in SCHEDULER_SETTINGS[self.scheduler]

    def unused_settings(self) -> tuple[str, ...]:
        """Return the settings of other schedulers that were changed, and that this one ignores."""
        settings = dict.fromkeys(name for used in SCHEDULER_SETTINGS.values() for name in used)
        default = SearchConfig()
        return tuple(
            name
            for name in settings
            if not self._uses(name) and getattr(self, name) != getattr(default, name)
        )
