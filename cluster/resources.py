"""What one trial needs; how many trials fit."""

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""Where Linux says how much CPU time a container gets: quota and period in microseconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialResources:
    """What one trial is given."""

    workers: int = 1
    """Processes that train one trial together, each with its share of a batch."""
    cpus_per_worker: int = 1
    """CPU cores, and so threads, of a worker."""
    gpus_per_worker: float | Literal["auto"] = "auto"
    """GPUs of a worker; a fraction lets several trials share one. auto: one, where there are enough
    for a trial's workers, else none."""
    concurrent_trials: int | Literal["auto"] = "auto"
    """Trials at a time; auto: as many as fit."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"resources.workers must be at least 1, got {self.workers}")
        if self.cpus_per_worker < 1:
            raise ValueError(
                f"resources.cpus_per_worker must be at least 1, got {self.cpus_per_worker}"
            )
        if not 0 <= self.gpus < math.inf:
            raise ValueError(
                f"resources.gpus_per_worker must be auto, or 0 or more, got {self.gpus_per_worker}"
            )
        if self.workers > 1 and self.gpus % 1:
            raise ValueError(
                f"resources.gpus_per_worker must be whole for {self.workers} workers, "
                f"got {self.gpus_per_worker}; two workers can't share a GPU's collectives"
            )
        if self.gpus > 1 and self.gpus % 1:
            raise ValueError(
                "resources.gpus_per_worker must be whole above 1, because Ray shares only single "
                f"GPUs, got {self.gpus_per_worker}"
            )
        if self.concurrent_trials != "auto" and self.concurrent_trials < 1:
            raise ValueError(
                f"resources.concurrent_trials must be auto or at least 1, "
                f"got {self.concurrent_trials}"
            )

    @property
    def gpus(self) -> float:
        """GPUs of a worker; none while auto has not been settled."""
        return 0 if self.gpus_per_worker == "auto" else self.gpus_per_worker

    def settle_gpus(self, capacity: "Capacity") -> "TrialResources":
        """Replace auto by what a machine or a cluster offers."""
        if self.gpus_per_worker != "auto":
            return self
        return dataclasses.replace(self, gpus_per_worker=int(capacity.gpus >= self.workers))


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What a machine or a cluster offers to trials."""

    cpus: float
    """CPU cores, of all machines together."""
    gpus: float
    """GPUs, of all machines together."""
    nodes: tuple[tuple[float, float], ...] = ()
    """CPU cores and GPUs of each machine, since a worker can't be on two; empty: there is one."""


def local_capacity() -> Capacity:
    """Count the cores that this process may use, and the GPUs that it sees."""
    import torch

    return Capacity(cpus=available_cpus(), gpus=torch.cuda.device_count())


def available_cpus(limit: Path = CGROUP_LIMIT) -> int:
    """Count the cores that this process may use: its affinity, within its container's quota.

    Args:
        limit: File that holds the quota (control groups version 2); none where it doesn't exist.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = limit.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return cores
    if quota == "max":
        return cores
    return max(1, min(cores, int(quota) // int(period)))


def fit_trials(resources: TrialResources, capacity: Capacity) -> int:
    """Return how many trials run at a time.

    Raises:
        ValueError: if not even one fits, or fewer than the study asks for.
    """
    resources = resources.settle_gpus(capacity)
    nodes = capacity.nodes or ((capacity.cpus, capacity.gpus),)
    fits = sum(_fit_workers(resources, *node) for node in nodes) // resources.workers
    needs = f"{resources.workers} x {resources.cpus_per_worker} CPUs"
    if resources.gpus:
        needs += f" and {resources.workers} x {resources.gpus:g} GPUs"
    offers = f"{capacity.cpus:g} CPUs and {capacity.gpus:g} GPUs"
    if len(nodes) > 1:
        offers += f" on {len(nodes)} machines"
    if fits < 1:
        raise ValueError(
            f"one trial needs {needs}, but there are {offers}; lower resources.workers, "
            f"resources.{'gpus' if resources.gpus else 'cpus'}_per_worker, or join a larger "
            "cluster with --address"
        )
    if resources.concurrent_trials == "auto":
        return fits
    if resources.concurrent_trials > fits:
        raise ValueError(
            f"resources.concurrent_trials is {resources.concurrent_trials}, but only {fits} fit: "
            f"one trial needs {needs}, and there are {offers}"
        )
    return resources.concurrent_trials


def _fit_workers(resources: TrialResources, cpus: float, gpus: float) -> int:
    """Return how many workers one machine holds."""
    fits = math.floor(cpus / resources.cpus_per_worker)
    if resources.gpus:
        # Rounded, because 1 / 0.1 must be 10 in spite of floating point.
        fits = min(fits, math.floor(round(gpus / resources.gpus, 6)))
    return fits
