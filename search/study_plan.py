"""What a study will do, said before it starts."""

import dataclasses
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cluster.memory import format_gb
from cluster.resources import NO_MEMORY, Capacity, MemoryNeed, TrialResources, fit_trials
from search.algorithms import LARGEST_ENUMERATION, effective_key
from search.schedulers import SCHEDULERS
from search.schedulers.hyperband import bracket_graces
from search.search_config import SMALLEST_POPULATION, SearchConfig
from search.study_config import StudyConfig
from spaces.grids import grid_combinations
from spaces.space import Space
from trainables.data.config import SPLIT_NAMES
from trainables.encoder import num_layers
from trainables.metrics import METRICS

if TYPE_CHECKING:
    from trainables.data.table import ClickTable


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFacts:
    """What is known of the data that a study was prepared with."""

    fingerprint: str
    """Hash of rows, split, encoder and tokens."""
    num_rows: tuple[int, int, int]
    """Rows of training, validation and test."""
    base_rate: float
    """Clicks per impression of the training rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyPlan:
    """A study's size and what each of its trials gets."""

    config: StudyConfig
    """The resolved study."""
    folder: Path
    """Where it will be."""
    num_points: int | None
    """Distinct points of the space; None: infinitely many, or too many to count."""
    num_trials: int
    """Trials that will run."""
    num_concurrent: int
    """Trials at a time."""
    capacity: Capacity
    """What the machine or the cluster offers."""
    rungs: tuple[int, ...]
    """Epochs after which trials may be stopped."""
    data: DataFacts | None
    """Known once the study has begun."""
    notes: tuple[str, ...]
    """Settings that have no effect, and why."""

    @property
    def threads_per_worker(self) -> int:
        """CPU threads of each worker: its share of the cores, so that trials don't collide."""
        return self.config.resources.cpus_per_worker

    @property
    def num_packed(self) -> float:
        """Trials on a shared GPU, 1 where none is shared; Ray fills one before it takes another."""
        share = self.config.resources.gpus
        return min(1 / share, self.num_concurrent) if 0 < share < 1 else 1.0

    @property
    def num_idle_cpus(self) -> float:
        """Cores that no trial of this study will use."""
        resources = self.config.resources
        used = self.num_concurrent * resources.workers * resources.cpus_per_worker
        return max(self.capacity.cpus - used, 0)


def make_plan(
    config: StudyConfig,
    folder: Path,
    capacity: Capacity,
    data: DataFacts | None,
    need: MemoryNeed | None = None,
) -> StudyPlan:
    """Work out what a study will do.

    Args:
        config: The study.
        folder: Where it will be.
        capacity: What the machine or the cluster offers.
        data: What is known of its data.
        need: The memory of its largest trial; None: not known, and taken as enough for as many at
            a time as cores and whole GPUs allow.

    Raises:
        ValueError: if a trial, or as many at a time as the study asks for, doesn't fit.
    """
    num_trials = count_trials(config)
    resources = config.resources.settle_gpus(capacity, need, most=num_trials)
    unlimited = config.resources.settle_gpus(capacity, NO_MEMORY, most=num_trials)
    config = dataclasses.replace(config, resources=resources)
    num_concurrent = fit_trials(resources, capacity, need)
    num_points = count_points(config.space)
    search = config.search
    allowed = min(fit_trials(unlimited, capacity), num_trials)
    notes = _notes_on_memory(resources, capacity, need, min(num_concurrent, num_trials), allowed)
    rungs = SCHEDULERS[search.scheduler](search).rungs
    return StudyPlan(
        config=config,
        folder=folder,
        num_points=num_points,
        num_trials=num_trials,
        num_concurrent=min(num_concurrent, num_trials),
        capacity=capacity,
        rungs=rungs,
        data=data,
        notes=(*_notes(config, num_points), *_notes_on_ends(search, num_trials, rungs), *notes),
    )


def check_layers(config: StudyConfig, encoder_folder: Path) -> None:
    """Refuse a space whose trials have or tune more layers than the encoder has.

    Raises:
        ValueError: with both numbers.
    """
    for name in ("encoder_layers", "tuned_layers"):
        parameter = config.space.parameters.get(name)
        if parameter is None:
            continue
        most = max(value for value in parameter.extremes() if isinstance(value, int))
        if most > (layers := num_layers(encoder_folder)):
            raise ValueError(
                f"space.{name} may be {most}, but encoder {config.encoder.name!r} has {layers} "
                f"layers; use at most {layers}, or leave {name} out to take all"
            )


def check_metric(config: StudyConfig, table: "ClickTable") -> None:
    """Refuse a study whose metric its validation or test rows don't define.

    Raises:
        ValueError: with what the metric needs.
    """
    metric = METRICS[config.search.metric]
    for part in ("validation", "test"):
        inside = table.split == SPLIT_NAMES.index(part)
        rows = table.clicks[inside], table.impressions[inside], table.groups[inside]
        try:
            # What is predicted doesn't matter.
            metric.function(np.full(len(rows[0]), 0.5), *rows)
        except ValueError as error:
            raise ValueError(
                f"search.metric: the {part} split of {config.data.path} can't be scored: {error}; "
                "optimize another metric, or change data.columns or data.split"
            ) from error


def count_points(space: Space) -> int | None:
    """Count the points that train different models; None if infinitely many, or too many.

    Beyond a hundred thousand, points that differ only in what the trial ignores count too.
    """
    count = space.count()
    if count is None or count > LARGEST_ENUMERATION:
        return count
    return _count_distinct(json.dumps(space.to_dict()))


@lru_cache(maxsize=8)
def _count_distinct(space: str) -> int:
    # Seconds for a large space, and plan, run and display each want to know.
    return len({effective_key(point) for point in Space.parse(json.loads(space)).enumerate()})


def count_trials(config: StudyConfig) -> int:
    """Return how many trials a study will have: a small space ends it early."""
    points = count_points(config.space)
    return config.search.trials if points is None else min(config.search.trials, points)


def count_repeats(config: StudyConfig) -> int:
    """Return how many trainings follow the search, with other seeds, at most."""
    search, num_trials = config.search, count_trials(config)
    if num_trials < 2 or not search.confirm_trials:
        return 0
    chosen = max(search.confirm_trials, config.winners) + (config.default_point() is not None)
    return min(chosen, num_trials) * search.confirm_seeds


def _notes_on_memory(
    resources: TrialResources,
    capacity: Capacity,
    need: MemoryNeed | None,
    num_concurrent: int,
    allowed: int,
) -> tuple[str, ...]:
    """Say why fewer trials run at a time than cores allow."""
    if num_concurrent >= allowed:
        return ()
    fewer = f"{num_concurrent} instead of {allowed} trials run at a time, because"
    if need is None:
        return (f"{fewer} what they take of a GPU's memory isn't known",)
    if resources.gpus and num_concurrent == fit_trials(resources, capacity):
        return (
            f"{fewer} one takes {format_gb(need.gpu_bytes)} of GPU memory ({need.largest}) and "
            f"a GPU offers {format_gb(capacity.gpu_memory or 0)}",
        )
    return (
        f"{fewer} one takes {resources.workers} x {format_gb(need.worker_bytes)} of memory "
        f"({need.largest}) and there is {' + '.join(map(format_gb, capacity.memory))}",
    )


def _notes_on_ends(search: SearchConfig, num_trials: int, rungs: tuple[int, ...]) -> list[str]:
    """Say which settings end no trial and no search."""
    notes = [
        f"search.{name} is {getattr(search, name)}, but scheduler {search.scheduler} doesn't use it"
        for name in search.unused_settings()
    ]
    if search.scheduler == "pbt":
        notes += _notes_on_population(search, num_trials)
    elif search.scheduler != "none" and not rungs:
        notes.append(
            f"{search.scheduler} stops no trial: search.grace_epochs is {search.grace_epochs} and "
            f"a trial has {search.epochs} epochs"
        )
    if search.scheduler == "hyperband" and search.brackets is not None:
        graces = bracket_graces(search.grace_epochs, search.reduction_factor, search.epochs)
        if search.brackets > len(graces):
            notes.append(
                f"search.brackets is {search.brackets}, but from {search.grace_epochs} to "
                f"{search.epochs} epochs there are only {len(graces)}"
            )
    if search.scheduler == "median" and rungs and search.min_peers >= num_trials:
        notes.append(
            f"median stops no trial: search.min_peers is {search.min_peers}, and there are only "
            f"{num_trials} trials"
        )
    if search.patience is not None and search.patience >= num_trials:
        notes.append(
            f"search.patience is {search.patience}, but there are only {num_trials} trials"
        )
    return notes


def _notes_on_population(search: SearchConfig, num_trials: int) -> list[str]:
    """Say why a population never replaces a member, if so."""
    if search.perturbation_epochs >= search.epochs:
        return [
            f"pbt replaces no trial: search.perturbation_epochs is {search.perturbation_epochs} "
            f"and a trial has {search.epochs} epochs"
        ]
    if num_trials < SMALLEST_POPULATION and int(num_trials * search.exploit_fraction) < 1:
        return [
            f"pbt replaces no trial: there are only {num_trials}, and it needs "
            f"{SMALLEST_POPULATION}"
        ]
    return []


def _notes_on_draws(config: StudyConfig) -> list[str]:
    """Say which grids and priors have no effect, or not their whole one."""
    search, space = config.search, config.space
    if search.algorithm == "grid":
        expected = space.expected()
        return [
            f"space.{name} has a prior, but algorithm grid visits every value alike"
            for name in expected
        ]
    count = len(grid_combinations(space))
    if count <= search.trials:
        return []
    return [
        f"the grids of {', '.join(space.grids())} have {count} combinations; with search.trials "
        f"{search.trials} some of them have no trial"
    ]


def _notes(config: StudyConfig, num_points: int | None) -> tuple[str, ...]:
    search = config.search
    notes = []
    if num_points is not None and num_points < search.trials:
        notes.append(
            f"search.trials is {search.trials}, but the space has only {num_points} points; "
            "the search ends with them"
        )
    if search.algorithm == "grid" and num_points is not None and num_points > search.trials:
        notes.append(
            f"the grid has {num_points} points; only the first {search.trials} (search.trials) run"
        )
    notes += _notes_on_draws(config)
    if len(search.start_from) > search.trials:
        notes.append(
            f"search.start_from has {len(search.start_from)} points; only the first "
            f"{search.trials} (search.trials) run"
        )
    if config.winners > search.trials:
        notes.append(
            f"winners is {config.winners}, but there are only {search.trials} trials; "
            "those that end are compressed"
        )
    if config.deepspeed.zero_stage and config.resources.workers == 1:
        notes.append(
            f"deepspeed.zero_stage is {config.deepspeed.zero_stage}, but with one worker there is "
            "nothing to shard"
        )
    return tuple(notes)
