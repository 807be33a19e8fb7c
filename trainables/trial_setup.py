"""What all trials of a study share, what one of them reports, and who runs it."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.resources import TrialResources
from spaces.trial_config import RECORD_SETTINGS, TrialConfig
from trainables.augmentation.config import AugmentationConfig
from trainables.deepspeed_config import DeepSpeedConfig
from trainables.encoder import EncoderConfig
from trainables.task import TaskConfig

EVALUATION_TOKENS = 1_280
"""Tokens of an evaluation batch on a CPU, padding included. Above cached layers four times as many
took 1.2 times the CPU time, and memory in proportion, much of which a trial kept
(tests/benchmarks/trial_memory.py)."""
GPU_EVALUATION_TOKENS = 16_384
"""The same on a GPU, which so few would leave idle; not measured."""


def evaluation_tokens(device_type: str) -> int:
    """Return the tokens of a batch that needs no gradient on a device: ``cpu`` or ``cuda``."""
    return EVALUATION_TOKENS if device_type == "cpu" else GPU_EVALUATION_TOKENS


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSetup:
    """Everything beside its configuration that determines a trial; equal for a whole study."""

    data_folder: str
    """Folder of the prepared data (``trainables/data/prepared.py``), visible from every node."""
    data_fingerprint: str
    """Hash of that data: rows, split and tokens."""
    encoder_fingerprint: str
    """Hash of the encoder's files."""
    task: TaskConfig = field(default_factory=TaskConfig)
    """What is predicted."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """The pretrained encoder; found anew on each node."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """How training texts may be varied."""
    deepspeed: DeepSpeedConfig = field(default_factory=DeepSpeedConfig)
    """How a step runs."""
    resources: TrialResources = field(default_factory=TrialResources)
    """How many workers share a trial."""

    def config_hash(self, trial: TrialConfig) -> str:
        """Identify a trained model: trials of equal hash have the same result.

        Returns:
            16 hexadecimal digits of SHA-256 over the trial's effective configuration, the data, the
            encoder, the task, augmentation, DeepSpeed's settings and the number of workers.
        """
        deepspeed = dataclasses.asdict(self.deepspeed)
        # They say where and in how many parts the same steps are computed.
        del deepspeed["offload_optimizer"]
        if not any(getattr(trial, name) for name in ("mixup_alpha", *RECORD_SETTINGS)):
            # Rows are mixed with others of the same part, and their fields varied part by part.
            del deepspeed["micro_batch_rows"]
        identity = {
            "trial": trial.effective(),
            "data": self.data_fingerprint,
            "encoder": self.encoder_fingerprint,
            "max_tokens": self.encoder.max_tokens,
            "task": self.task.meaning(),
            "deepspeed": deepspeed,
            "workers": self.resources.workers,
        }
        if augmentation := self.augmentation.identity(
            "none" if trial.inputs == "fields" else trial.augmentation
        ):
            identity["augmentation"] = augmentation
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """One process among those that train a trial together."""

    rank: int = 0
    """Its number, from 0."""
    world_size: int = 1
    """How many there are."""
    num_threads: int = 1
    """CPU threads that it may use."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointRecord:
    """A checkpoint on disk."""

    path: str
    """Its folder."""
    epoch: int
    """Finished epochs that it holds."""
    num_bytes: int
    """Size of all its files."""

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What a trial yields after each epoch."""

    epoch: int
    """Finished epochs, from 1."""
    metrics: Mapping[str, float]
    """Validation metrics by name, and ``train_loss``; the same on every worker."""
    seconds: float
    """Time spent on this epoch: training and evaluation."""
    evaluate_seconds: float
    """What of it the validation rows took. A checkpoint is written meanwhile, maybe for longer."""
    config_hash: str
    """:meth:`TrialSetup.config_hash` of what the trial really ran with."""
    done: bool
    """Whether this was the last epoch."""
    checkpoint: CheckpointRecord | None
    """The checkpoint of this epoch, written; None if the trial keeps none."""
