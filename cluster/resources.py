"""What one trial needs; how many trials fit."""

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cluster.memory import format_gb, free_gpu_memory, free_memory

CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""Where Linux says how much CPU time a container gets: quota and period in microseconds."""

GPU_DRIVERS = tuple(map(Path, ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")))
"""What Linux shows of a GPU's driver: NVIDIA's, Windows' below it, AMD's."""

FILLED_SHARE = 0.93
"""How much of the free memory trials may take: at 95 % of a machine's, Ray kills a worker."""

RAY_BYTES = 0.8e9
"""What Ray's own processes take on this machine, 0.44 GB measured, its object store, 0.2 GB, and
some room."""

MOST_PACKED = 8
"""Trials that share a GPU at most, unless a study says how many: eight do little more than four
once all are under way, and much more while they begin (docs/measurements.md, "On a GPU")."""

SHARE_STEPS = 10_000
"""Ray counts resources in steps of a ten-thousandth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialResources:
    """What one trial is given."""

    workers: int = 1
    """Processes that train one trial together, each with its share of a batch."""
    cpus_per_worker: int = 1
    """CPU cores, and so threads, of a worker."""
    gpus_per_worker: float | Literal["auto"] = "auto"
    """GPUs of a worker; a fraction lets several trials share one. auto: where there are enough for
    a trial's workers, one, or the fraction that memory and cores allow; else none."""
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

    def settle_gpus(
        self, capacity: "Capacity", need: "MemoryNeed | None" = None, *, most: float = math.inf
    ) -> "TrialResources":
        """Replace auto by what a machine or a cluster offers.

        Trials of one worker share GPUs, as many on each as its memory holds and the machine's cores
        and memory allow, eight at most. Those of several don't: two processes of a collective can't
        be on one GPU.

        Args:
            capacity: What there is.
            need: The memory of the largest trial; None: not known, and no GPU is shared.
            most: Trials that there are; no more share a GPU than these need.
        """
        if self.gpus_per_worker != "auto":
            return self
        share: float = int(capacity.gpus >= self.workers)
        if share and self.workers == 1 and need is not None:
            share = gpu_share(self._count_packed(capacity, need, most))
        return dataclasses.replace(self, gpus_per_worker=share)

    def _count_packed(self, capacity: "Capacity", need: "MemoryNeed", most: float) -> int:
        """Return how many trials may share each GPU."""
        if capacity.gpu_memory is None:
            return 1
        if self.concurrent_trials != "auto":
            most = min(most, self.concurrent_trials)
        # Cores and a machine's memory are counted machine by machine when trials are: here, as many
        # as the best equipped one could use. The last GPU may hold fewer.
        useful = max(
            min(cpus // self.cpus_per_worker, _fit_bytes(need.worker_bytes, free)) / gpus
            for cpus, gpus, free in _machines(capacity)
            if gpus
        )
        most_useful = math.ceil(min(MOST_PACKED, useful, most / capacity.gpus))
        return max(1, int(min(most_useful, _fit_bytes(need.gpu_bytes, capacity.gpu_memory))))


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What a machine or a cluster offers to trials."""

    cpus: float
    """CPU cores, of all machines together."""
    gpus: float
    """GPUs, of all machines together."""
    nodes: tuple[tuple[float, float], ...] = ()
    """CPU cores and GPUs of each machine, since a worker can't be on two; empty: there is one."""
    memory: tuple[float, ...] = ()
    """Bytes that trials may take on each machine, in the order of ``nodes``; empty: not known."""
    gpu_memory: float | None = None
    """Bytes that the smallest GPU offers to trials; None: not known, or there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryNeed:
    """The memory that the largest trial of a study takes."""

    worker_bytes: float
    """Of each worker's own; files that all trials map count once for all, as the system's cache."""
    gpu_bytes: float
    """Of each worker on its GPU."""
    largest: str
    """Which trial that is, like "batch_size 64, method full"."""
    remedy: str
    """What to change in the study where it doesn't fit."""


NO_MEMORY = MemoryNeed(worker_bytes=0.0, gpu_bytes=0.0, largest="", remedy="")
"""What a trial takes where memory shall not be looked at: as many run as cores allow."""


def local_capacity() -> Capacity:
    """Count the cores that this process may use, the GPUs that it sees, and free memory."""
    gpus = count_gpus()
    return Capacity(
        cpus=available_cpus(),
        gpus=gpus,
        memory=(max(0.0, free_memory() * FILLED_SHARE - RAY_BYTES),),
        gpu_memory=free_gpu_memory() if gpus else None,
    )


def gpu_share(count: int) -> float:
    """Return the largest fraction of a GPU of which so many fit on one."""
    return SHARE_STEPS // count / SHARE_STEPS


def count_gpus(drivers: Sequence[Path] = GPU_DRIVERS) -> int:
    """Count the GPUs that this process sees.

    Args:
        drivers: Files of which one is there where a driver is; torch, which takes two seconds to
            import, isn't asked without one.
    """
    if not any(driver.exists() for driver in drivers):
        return 0
    import torch

    return torch.cuda.device_count()


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


def fit_trials(
    resources: TrialResources, capacity: Capacity, need: MemoryNeed | None = None
) -> int:
    """Return how many trials run at a time.

    Args:
        resources: What a trial is given.
        capacity: What there is.
        need: The memory that a trial takes; None: there is enough for as many as the cores allow.

    Raises:
        ValueError: if not even one fits, or fewer than the study asks for.
    """
    resources = resources.settle_gpus(capacity, need)
    fits = _count_trials(resources, capacity, None)
    needs = f"{resources.workers} x {resources.cpus_per_worker} CPUs"
    if resources.gpus:
        needs += f" and {resources.workers} x {resources.gpus:g} GPUs"
    offers = f"{capacity.cpus:g} CPUs and {capacity.gpus:g} GPUs"
    if len(capacity.nodes) > 1:
        offers += f" on {len(capacity.nodes)} machines"
    if fits < 1:
        raise ValueError(
            f"one trial needs {needs}, but there are {offers}; lower resources.workers, "
            f"resources.{'gpus' if resources.gpus else 'cpus'}_per_worker, or join a larger "
            "cluster with --address"
        )
    if resources.concurrent_trials != "auto" and resources.concurrent_trials > fits:
        raise ValueError(
            f"resources.concurrent_trials is {resources.concurrent_trials}, but only {fits} fit: "
            f"one trial needs {needs}, and there are {offers}"
        )
    asked = fits if resources.concurrent_trials == "auto" else resources.concurrent_trials
    return asked if need is None else _fit_memory(resources, capacity, need, asked)


def _fit_memory(resources: TrialResources, capacity: Capacity, need: MemoryNeed, asked: int) -> int:
    """Return how many of the trials that the cores allow fit into memory.

    Raises:
        ValueError: as :func:`fit_trials`.
    """
    _check_gpu_memory(resources, capacity, need)
    fits = _count_trials(resources, capacity, need)
    offers = " + ".join(format_gb(memory) for memory in capacity.memory)
    needs = f"{resources.workers} x {format_gb(need.worker_bytes)} of memory ({need.largest})"
    if fits < 1:
        raise ValueError(f"one trial needs {needs}, but there is {offers}; {need.remedy}")
    if resources.concurrent_trials != "auto" and fits < asked:
        raise ValueError(
            f"resources.concurrent_trials is {asked}, but only {fits} fit: one trial needs "
            f"{needs}, and there is {offers}; write concurrent_trials: {fits}, or {need.remedy}"
        )
    return min(asked, fits)


def _check_gpu_memory(resources: TrialResources, capacity: Capacity, need: MemoryNeed) -> None:
    """Refuse to pack more trials on a GPU than its memory holds; Ray looks at the fraction only."""
    if not resources.gpus or capacity.gpu_memory is None:
        return
    num_packed = _per_gpu(resources.gpus) if resources.gpus < 1 else 1
    if resources.concurrent_trials != "auto":
        num_packed = min(num_packed, resources.concurrent_trials)
    if num_packed * need.gpu_bytes <= capacity.gpu_memory:
        return
    problem = (
        f"{num_packed} x {format_gb(need.gpu_bytes)} of GPU memory ({need.largest}), but a GPU "
        f"offers {format_gb(capacity.gpu_memory)}"
    )
    holds = int(capacity.gpu_memory // need.gpu_bytes)
    if holds < 1:
        raise ValueError(f"one trial needs {problem}; {need.remedy}")
    fraction = gpu_share(holds)
    raise ValueError(
        f"resources.gpus_per_worker is {resources.gpus:g}, which packs trials that need {problem}; "
        f"write gpus_per_worker: {fraction:g} for {holds} on a GPU, or {need.remedy}"
    )


def _count_trials(resources: TrialResources, capacity: Capacity, need: MemoryNeed | None) -> int:
    worker_bytes = 0.0 if need is None else need.worker_bytes
    workers = sum(
        min(_fit_workers(resources, cpus, gpus), _fit_bytes(worker_bytes, free))
        for cpus, gpus, free in _machines(capacity)
    )
    return int(workers // resources.workers)


def _machines(capacity: Capacity) -> Iterator[tuple[float, float, float]]:
    """Yield the cores, the GPUs and the bytes that each machine offers."""
    nodes = capacity.nodes or ((capacity.cpus, capacity.gpus),)
    memory = capacity.memory or (math.inf,) * len(nodes)
    for (cpus, gpus), free in zip(nodes, memory, strict=True):
        yield cpus, gpus, free


def _fit_bytes(each: float, free: float) -> float:
    return free // each if each and math.isfinite(free) else math.inf


def _fit_workers(resources: TrialResources, cpus: float, gpus: float) -> float:
    """Return how many workers one machine holds."""
    fits = math.floor(cpus / resources.cpus_per_worker)
    if resources.gpus < 1:
        return min(fits, gpus * _per_gpu(resources.gpus)) if resources.gpus else fits
    return min(fits, math.floor(gpus / resources.gpus))


def _per_gpu(fraction: float) -> int:
    """Return how many workers of a fraction share a GPU."""
    # Rounded, because 1 / 0.1 must be 10 in spite of floating point.
    return math.floor(round(1 / fraction, 6))
