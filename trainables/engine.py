"""TrialConfig -> DeepSpeed config and engine (the only importer of deepspeed)."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepSpeedConfig:
    """How DeepSpeed runs a trial's steps."""

    zero_stage: Literal[0, 1, 2, 3] = 0
    """What ZeRO shards over a trial's workers: 0 nothing, 1 optimizer, 2 + gradients, 3 + weights."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where the hardware multiplies it natively, else fp32."""
    gradient_clipping: float = 1.0
    """Largest norm of a step's gradient; 0: no limit."""

    def __post_init__(self) -> None:
        if self.gradient_clipping < 0:
            raise ValueError(
                f"deepspeed.gradient_clipping must be 0 or more, got {self.gradient_clipping}"
            )
