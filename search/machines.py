"""Ask the machines of a cluster what they offer a study's trials."""

import dataclasses

from cluster.memory import free_gpu_memory
from cluster.resources import Capacity, TrialResources
from search.study_config import StudyConfig
from trainables.deepspeed_config import DeepSpeedConfig, settle_precision


def cluster_capacity(address: str, resources: TrialResources) -> Capacity:
    """Join a cluster for as long as it takes to ask what it offers.

    Raises:
        ConnectionError: if it can't be joined.
    """
    from cluster.connect import capacity, connect

    with connect(address):
        return with_gpu_memory(capacity(), resources)


def settle_precision_there(config: StudyConfig) -> DeepSpeedConfig:
    """Ask a machine that trials will run on, through the connected Ray, what auto means there."""
    if not config.resources.gpus:
        return settle_precision(config.deepspeed, use_gpu=False)
    import ray

    remote = ray.remote(settle_precision).options(num_gpus=min(1, config.resources.gpus))
    settled: DeepSpeedConfig = ray.get(remote.remote(config.deepspeed, use_gpu=True))
    return settled


def with_gpu_memory(capacity: Capacity, resources: TrialResources) -> Capacity:
    """Ask a machine that trials will run on, through the connected Ray, what its GPUs have free.

    Where none answers, as while others use all GPUs, the capacity stays without that number.
    """
    gpus = resources.settle_gpus(capacity).gpus
    if not gpus:
        return capacity
    import ray
    from ray.exceptions import RayError

    from cluster.connect import NODE_TIMEOUT_S

    answer = ray.remote(free_gpu_memory).options(num_gpus=min(1, gpus)).remote()
    try:
        free = ray.get(answer, timeout=NODE_TIMEOUT_S)
    except RayError:
        # Else it would take a GPU for itself as soon as there is one.
        ray.cancel(answer)
        free = None
    return dataclasses.replace(capacity, gpu_memory=free)
