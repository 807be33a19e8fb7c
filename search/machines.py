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
    """Ask a machine that trials will run on, through the connected Ray, what auto means there.

    Raises:
        ValueError: if the precision is none for that machine, or no machine answers.
    """
    gpus = config.resources.gpus
    if not gpus and config.deepspeed.precision != "bf16":
        return settle_precision(config.deepspeed, use_gpu=False)
    import ray
    from ray.exceptions import GetTimeoutError, RayTaskError

    from cluster.connect import NODE_TIMEOUT_S

    where = {"num_gpus": min(1, gpus)} if gpus else {"num_cpus": 1}
    answer = (
        ray.remote(settle_precision).options(**where).remote(config.deepspeed, use_gpu=gpus > 0)
    )
    try:
        settled: DeepSpeedConfig = ray.get(answer, timeout=NODE_TIMEOUT_S)
    except GetTimeoutError:
        ray.cancel(answer)
        kind = "GPU" if gpus else "CPU"
        raise ValueError(
            f"no {kind} of the cluster became free within {NODE_TIMEOUT_S:g} s, to be asked for "
            "its precision; wait until others need fewer, or set deepspeed.precision to fp32"
        ) from None
    except RayTaskError as error:
        # Ray's has its own traceback in the text.
        raise error.cause from None
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
