"""One YAML file, composed of its parts' configs."""

from dataclasses import dataclass, field
from typing import Literal

from cluster.resources import TrialResources
from spaces.space import Space
from trainables.compression.config import CompressionConfig
from trainables.data.config import DataConfig
from trainables.encoder import EncoderConfig
from trainables.engine import DeepSpeedConfig
from trainables.task import TaskConfig

AlgorithmName = Literal["grid", "random", "tpe"]
SchedulerName = Literal["none", "asha"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """Which trials run, and for how long."""

    algorithm: AlgorithmName = "tpe"
    """grid: every point in order; random; tpe: Bayesian (Bergstra et al. 2011, through Optuna)."""
    scheduler: SchedulerName = "asha"
    """none: every trial runs to its end; asha: successive halving (Li et al. 2020)."""
    trials: int = 24
    """Trials of the study; a grid may have fewer points."""
    epochs: int = 3
    """Passes over the training rows of a trial that isn't stopped early."""
    metric: str = "roc_auc"
    """What is optimized, measured on the validation split."""
    seed: int = 0
    """Seeds the points and the trials."""
    reduction_factor: int = 3
    """asha: one in this many trials goes on at each rung."""
    grace_epochs: int = 1
    """asha: epochs that every trial gets."""
    max_failures: int = 1
    """Times that a trial is tried again after its process died."""
    checkpoint_budget_gb: float = 20.0
    """Disk space for checkpoints; beyond it the worst finished trials lose theirs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyConfig:
    """A study file."""

    name: str
    """Name of the study and of its output folder."""
    data: DataConfig
    space: Space
    task: TaskConfig = field(default_factory=TaskConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    resources: TrialResources = field(default_factory=TrialResources)
    deepspeed: DeepSpeedConfig = field(default_factory=DeepSpeedConfig)
    compression: CompressionConfig = field(default_factory=CompressionConfig)
    winners: int = 3
    """How many of the best trials are compressed."""
