"""Whether a study's trials fit into memory, and how long the study will take."""

import dataclasses
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from cluster.resources import NO_MEMORY, Capacity, MemoryNeed, TrialResources, fit_trials
from search.schedulers import SCHEDULERS
from search.search_config import SearchConfig
from search.study_config import StudyConfig
from search.study_plan import count_trials
from search.trial_kinds import describe_kind, trial_kinds
from spaces.trial_config import TrialConfig
from trainables.footprint import Footprint
from trainables.memory_bound import (
    GPU_PROCESS_BYTES,
    PROCESS_BYTES,
    EncoderShape,
    bound_memory,
    most_rows,
)
from trainables.out_of_memory import suggest_smaller

START_SECONDS = 20.0
"""Until a study's first trials train: Ray starts and each place's process loads its libraries."""

GPU_HOST_BYTES = 4e9
"""What a process that trains on a GPU may take of the machine's own memory: CUDA's libraries."""

PACKED_POWER = 0.4
"""To which power of their number trials that share a GPU do the work of one: eight did 2.3 times it
(docs/measurements.md, "On a GPU")."""

MOST_PLAYED = 200
"""Trials of a played search: in a longer one, the share that is stopped hardly changes."""

NUM_PLAYED = 4_000
"""Trials of all played searches together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialCosts:
    """What the trials of a study take, as measured; batch sizes between are interpolated."""

    footprints: tuple[Footprint, ...]
    """What was measured."""
    shares: Mapping[TrialConfig, float]
    """Each kind of trial, to the share of the study's trials that are like it."""
    search: SearchConfig
    """Epochs, and what stops trials before their last."""
    frozen_seconds: float
    """Time to compute the frozen layers' output, once for the study."""
    variant_seconds: tuple[float, ...] = ()
    """The same for the variants of an epoch: one number for each augmentation over each number of
    frozen layers, which trials that agree on both share."""
    micro_batch_rows: int | None = None
    """The study's, which is what to lower where memory is short."""

    def of(self, kind: TrialConfig) -> Footprint:
        """Return what a kind of trial takes."""
        same = sorted(
            (found for found in self.footprints if _unsized(found.trial) == _unsized(kind)),
            key=lambda found: found.trial.batch,
        )
        sizes = [found.trial.batch for found in same]
        if kind.batch in sizes:
            return same[sizes.index(kind.batch)]

        def between(name: str) -> float:
            return float(np.interp(kind.batch, sizes, [getattr(f, name) for f in same]))

        return dataclasses.replace(
            same[0],
            trial=kind,
            rows_per_step=round(between("rows_per_step")),
            step_seconds=between("step_seconds"),
            memory_bytes=between("memory_bytes"),
            gpu_bytes=between("gpu_bytes"),
        )

    def study_seconds(
        self,
        *,
        num_trials: int,
        num_concurrent: int,
        num_packed: float = 1.0,
        epochs: float | None = None,
    ) -> float:
        """Predict how long a search takes, compression excluded.

        Args:
            num_trials: Trials of the study.
            num_concurrent: Trials at a time.
            num_packed: Those of them that share a GPU; each takes longer than alone.
            epochs: Of a trial on average; None: all.
        """
        epochs = self.search.epochs if epochs is None else epochs
        mean = sum(share * self.of(kind).seconds(epochs) for kind, share in self.shares.items())
        mean *= math.pow(num_packed, 1 - PACKED_POWER)
        # The last rounds leave places empty; no search ends before a whole trial has.
        rounds = max(num_trials / num_concurrent, 1)
        frozen = self.frozen_seconds
        if self.variant_seconds:
            # Trials that share an augmentation wait for one of them; others compute side by side.
            at_once = min(num_concurrent, len(self.variant_seconds))
            frozen += epochs * sum(self.variant_seconds) / at_once
        return START_SECONDS + frozen + rounds * mean

    def need(self, resources: TrialResources, capacity: Capacity) -> MemoryNeed:
        """Return the memory that the largest trial takes, and what would be less."""
        largest = max(
            (self.of(kind) for kind in self.shares),
            key=lambda found: (found.gpu_bytes, found.memory_bytes),
        )
        memory = max(capacity.memory, default=0.0) / resources.workers
        if resources.concurrent_trials != "auto":
            memory /= resources.concurrent_trials
        batch = self._largest_batch(largest.trial, memory, capacity.gpu_memory)
        return MemoryNeed(
            worker_bytes=max(self.of(kind).memory_bytes for kind in self.shares),
            gpu_bytes=largest.gpu_bytes,
            largest=describe_kind(largest.trial),
            remedy=suggest_smaller(
                largest.trial, batch=batch, micro_batch_rows=self.micro_batch_rows
            ),
        )

    def _largest_batch(
        self, kind: TrialConfig, memory: float, gpu_memory: float | None
    ) -> int | None:
        """Return the largest measured-for batch size below a kind's that fits."""
        for size in range(kind.batch - 1, 0, -max(1, kind.batch // 64)):
            found = self.of(kind.with_batch(size))
            if found.memory_bytes <= memory and found.gpu_bytes <= (gpu_memory or np.inf):
                return size
        return None


def expected_epochs(search: SearchConfig, num_trials: int) -> float:
    """Return how many epochs a trial runs on average, if trials are as good as chance has it.

    Plays the study's own scheduler with random scores, each trial's the same after every epoch. A
    search that learns brings better trials later, of which fewer are stopped; and where scores rise
    from epoch to epoch, the running averages of ``median`` lag behind, and fewer are stopped too.
    """
    rng = np.random.default_rng(0)
    num_trials = min(num_trials, MOST_PLAYED)
    return fmean(_play(search, num_trials, rng) for _ in range(-(-NUM_PLAYED // num_trials)))


def _play(search: SearchConfig, num_trials: int, rng: np.random.Generator) -> float:
    scheduler = SCHEDULERS[search.scheduler](search)
    total = 0
    for number, score in enumerate(rng.random(num_trials)):
        for epoch in range(1, search.epochs + 1):
            total += 1
            if scheduler.report(number, epoch, float(score)) == "stop":
                break
    return total / num_trials


def bound_need(
    config: StudyConfig, encoder: Path, *, num_tokens: int, num_rows: int, use_gpu: bool
) -> MemoryNeed:
    """Return an upper bound of what a trial takes, from the shapes alone.

    Args:
        config: The study.
        encoder: The encoder's folder.
        num_tokens: Tokens of the longest row, or more.
        num_rows: Training rows, which limit a batch too.
        use_gpu: Whether trials run on GPUs.
    """
    shape, resources = EncoderShape.read(encoder), config.resources

    def tensor_bytes(kind: TrialConfig) -> float:
        rows = most_rows(kind, num_tokens=num_tokens, workers=resources.workers)
        rows = min(rows, -(-num_rows // resources.workers))
        rows = min(rows, config.deepspeed.micro_batch_rows or rows)
        return bound_memory(shape, kind, rows=rows, num_tokens=num_tokens)

    tensors = max(map(tensor_bytes, trial_kinds(config)))
    return MemoryNeed(
        worker_bytes=PROCESS_BYTES + (GPU_HOST_BYTES if use_gpu else tensors),
        gpu_bytes=GPU_PROCESS_BYTES + tensors if use_gpu else 0.0,
        largest="at most, by its shapes",
        remedy="",
    )


def is_ample(
    resources: TrialResources, capacity: Capacity, bound: MemoryNeed, *, num_trials: int
) -> bool:
    """Return whether a bound shows that memory limits nothing.

    Args:
        resources: What a trial is given.
        capacity: What there is.
        bound: What a trial takes at most.
        num_trials: Trials of the study.
    """
    # Where GPUs are shared, as many trials on each as if they took nothing.
    resources = resources.settle_gpus(capacity, NO_MEMORY, most=num_trials)
    allowed = fit_trials(resources, capacity)
    try:
        return fit_trials(resources, capacity, bound) == allowed
    except ValueError:
        return False


def frozen_seconds(
    footprints: Sequence[Footprint], config: StudyConfig, encoder: Path, num_rows: Sequence[int]
) -> float:
    """Predict how long a study's trials compute what their frozen layers give, once for all.

    A layer takes as long for a token there as in an evaluation of the layers above it.

    Args:
        footprints: What was measured.
        config: The study.
        encoder: The encoder's folder.
        num_rows: Rows of training and validation.
    """
    if config.encoder.cache_gb == 0:
        return 0.0
    by_cut = _frozen_row_seconds(footprints, encoder, num_rows)
    return sum(by_cut.values()) * sum(num_rows)


def variant_seconds(
    footprints: Sequence[Footprint], config: StudyConfig, encoder: Path, num_rows: Sequence[int]
) -> tuple[float, ...]:
    """Predict how long the frozen layers take for the variants of one epoch.

    Args:
        footprints: What was measured.
        config: The study.
        encoder: The encoder's folder.
        num_rows: Rows of training and validation.

    Returns:
        A number for each operation, rate, share and number of frozen layers that as many points
        have as the study has trials: a rate out of a range is each trial's own.
    """
    if config.encoder.cache_gb == 0:
        return ()
    by_cut = _frozen_row_seconds(footprints, encoder, num_rows)
    rng = random.Random(0)
    trials = [
        TrialConfig(**config.space.sample(rng), epochs=config.search.epochs)  # type: ignore[arg-type]
        for _ in range(count_trials(config))
    ]
    distinct = {
        (trial.augmentation, trial.augmentation_rate, _mean_share(trial), _cut(trial))
        for trial in trials
    }
    times = (share * num_rows[0] * by_cut.get(cut, 0.0) for _, _, share, cut in distinct)
    return tuple(seconds for seconds in times if seconds)


def _mean_share(trial: TrialConfig) -> float:
    return fmean(trial.varied_share(epoch) for epoch in range(1, trial.epochs + 1))


def _cut(trial: TrialConfig) -> tuple[int | None, int | None]:
    """Return the layers that a trial has and trains: between them lies what is frozen."""
    return trial.encoder_layers, trial.top_layers


def _frozen_row_seconds(
    footprints: Sequence[Footprint], encoder: Path, num_rows: Sequence[int]
) -> dict[tuple[int | None, int | None], float]:
    """Return how long the frozen layers take for a row, by the layers that there are and train."""
    all_layers = EncoderShape.read(encoder).layers
    return {
        _cut(found.trial): found.evaluate_seconds
        * ((found.trial.encoder_layers or all_layers) - tuned)
        / tuned
        / max(1, num_rows[1])
        for found in footprints
        if (tuned := found.trial.top_layers) is not None
    }


def _unsized(trial: TrialConfig) -> TrialConfig:
    return trial.with_batch(1)
