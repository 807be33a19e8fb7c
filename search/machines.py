"""Ask the machines of a cluster what they offer a study's trials."""

import dataclasses

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
    """Ask the machines that trials will run on, through the connected Ray, what GPUs have free.

    Where one can't tell, the capacity stays without that number.
    """
    from cluster.connect import free_memory_of_gpus

    if not resources.settle_gpus(capacity).gpus:
        return capacity
    return dataclasses.replace(capacity, gpu_memory=free_memory_of_gpus())
