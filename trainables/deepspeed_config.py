"""How DeepSpeed runs a trial's steps, as a study file says it."""

import dataclasses
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepSpeedConfig:
    """How DeepSpeed runs a trial's steps."""

    zero_stage: Literal[0, 1, 2, 3] = 0
    """What ZeRO shards over workers: 0 nothing, 1 optimizer, 2 + gradients, 3 + weights."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on a GPU that multiplies it natively, else fp32; settled when a study starts. bf16
    is torch's autocast: weights, optimizer and log-odds stay float32; under ZeRO workers send each
    other gradients, and with stage 3 weights, in bf16."""
    gradient_clipping: float = 1.0
    """Largest norm of a step's gradient; 0: no limit."""
    micro_batch_rows: int | None = None
    """Most rows that a worker takes through the model at once. A larger batch goes in parts whose
    gradients add up: it needs less memory and trains the same. None: the whole batch at once."""
    offload_optimizer: bool = False
    """Keep the optimizer's state in the CPU's memory and update there (ZeRO-Offload, Ren et al.
    2021): less GPU memory, slower steps. Needs zero_stage 1 or more."""

    def __post_init__(self) -> None:
        if self.gradient_clipping < 0:
            raise ValueError(
                f"deepspeed.gradient_clipping must be 0 or more, got {self.gradient_clipping}"
            )
        if self.micro_batch_rows is not None and self.micro_batch_rows < 1:
            raise ValueError(
                f"deepspeed.micro_batch_rows must be at least 1, got {self.micro_batch_rows}; "
                "leave it out to take a batch at once"
            )
        if self.offload_optimizer and self.zero_stage == 0:
            raise ValueError(
                "deepspeed.offload_optimizer needs zero_stage 1, 2 or 3, got 0: without ZeRO "
                "DeepSpeed has no optimizer state that it could move"
            )


def settle_precision(config: DeepSpeedConfig, *, use_gpu: bool) -> DeepSpeedConfig:
    """Replace auto by what this machine's hardware is good at.

    Settled once for a study, so that a trial's configuration says what it really ran in. On a CPU
    auto is fp32 even where bf16 is native: see docs/measurements.md.

    Args:
        config: As the study file has it.
        use_gpu: Whether trials run on this machine's GPU.

    Raises:
        ValueError: if bf16 is asked for where the hardware only emulates it, several times slower
            than fp32.
    """
    if not use_gpu and config.precision != "bf16":
        return dataclasses.replace(config, precision="fp32")
    import torch

    if use_gpu:
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        abilities = torch.cpu.get_capabilities()
        native = bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))
    if config.precision == "bf16" and not native:
        raise ValueError(
            "deepspeed.precision is bf16, but this machine has no bf16 arithmetic and would "
            "emulate it several times slower than fp32; use auto or fp32"
        )
    if config.precision != "auto":
        return config
    return dataclasses.replace(config, precision="bf16" if native else "fp32")
