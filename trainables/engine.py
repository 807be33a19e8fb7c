"""TrialConfig -> DeepSpeed config and engine (the only importer of deepspeed)."""

import contextlib
import dataclasses
import logging
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from torch import nn

    from spaces.trial_config import TrialConfig
    from trainables.trial_setup import Worker


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepSpeedConfig:
    """How DeepSpeed runs a trial's steps."""

    zero_stage: Literal[0, 1, 2, 3] = 0
    """What ZeRO shards over workers: 0 nothing, 1 optimizer, 2 + gradients, 3 + weights."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on a GPU that multiplies it natively, else fp32; settled when a study starts."""
    gradient_clipping: float = 1.0
    """Largest norm of a step's gradient; 0: no limit."""

    def __post_init__(self) -> None:
        if self.gradient_clipping < 0:
            raise ValueError(
                f"deepspeed.gradient_clipping must be 0 or more, got {self.gradient_clipping}"
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
    return dataclasses.replace(config, precision="bf16" if native and use_gpu else "fp32")


class Engine:
    """A model under DeepSpeed: forward, backward, step, and its state on disk."""

    def __init__(self, engine: Any) -> None:  # noqa: ANN401 - DeepSpeed ships no types
        self._engine = engine

    @property
    def device(self) -> "torch.device":
        """Where a batch has to be."""
        device: torch.device = self._engine.device
        return device

    @property
    def module(self) -> "nn.Module":
        """The model; under ZeRO 3 its weights are sharded between forward passes."""
        module: nn.Module = self._engine.module
        return module

    def train(self) -> None:
        """Turn dropout on."""
        self._engine.train()

    def eval(self) -> None:
        """Turn dropout off."""
        self._engine.eval()

    def forward(self, **batch: "torch.Tensor | None") -> "torch.Tensor":
        """Run the model."""
        output: torch.Tensor = self._engine(**batch)
        return output

    def backward_and_step(self, loss: "torch.Tensor") -> None:
        """Average the gradient over the workers, clip it, update weights and learning rate."""
        self._engine.backward(loss)
        self._engine.step()

    def trained_weights(self) -> dict[str, "torch.Tensor"]:
        """Gather the weights that train, as float32 on the CPU; every worker must call it.

        Returns:
            Name to tensor; empty on all workers but the first.
        """
        import deepspeed
        import torch

        trained = {n: p for n, p in self.module.named_parameters() if p.requires_grad}
        sharded = [p for p in trained.values() if hasattr(p, "ds_id")]
        with deepspeed.zero.GatheredParameters(sharded, enabled=bool(sharded)):
            if self._engine.global_rank != 0:
                return {}
            return {
                name: parameter.detach().to("cpu", torch.float32, copy=True).contiguous()
                for name, parameter in trained.items()
            }

    def save(self, folder: Path) -> None:
        """Write optimizer, schedule and weights, to train on; every worker must call it."""
        self._engine.save_checkpoint(
            str(folder), tag="state", save_latest=False, exclude_frozen_parameters=True
        )

    def load(self, folder: Path) -> None:
        """Go on from :meth:`save`; every worker must call it.

        Raises:
            RuntimeError: if the folder holds no complete state of this engine.
        """
        if not any((folder / "state").glob("*.pt")):
            raise RuntimeError(f"no training state in {folder}; the checkpoint is incomplete")
        self._engine.load_checkpoint(str(folder), tag="state", load_module_strict=False)

    def barrier(self) -> None:
        """Wait for all workers of the trial."""
        import torch

        torch.distributed.barrier()

    def all_workers(self, agrees: bool) -> bool:
        """Return whether every worker says yes; all of them must call it."""
        import torch

        votes = self.add_over_workers(torch.tensor(float(agrees), device=self.device))
        return float(votes) == torch.distributed.get_world_size()

    def add_over_workers(self, tensor: "torch.Tensor") -> "torch.Tensor":
        """Replace a tensor by its sum over the trial's workers, and return it."""
        import torch

        torch.distributed.all_reduce(tensor)
        return tensor


@contextlib.contextmanager
def open_engine(
    model: "nn.Module",
    trial: "TrialConfig",
    config: DeepSpeedConfig,
    worker: "Worker",
    *,
    total_steps: int,
) -> Iterator[Engine]:
    """Put a model under DeepSpeed with AdamW and a linear warm-up and decay; release it at the end.

    Args:
        model: Its parameters that require a gradient are trained.
        trial: Learning rate, weight decay, batch size, warm-up.
        config: ZeRO stage, precision, clipping.
        worker: This process; the others of the trial must call this too.
        total_steps: Optimizer steps after which the learning rate is 0.
    """
    # Before DeepSpeed is imported: it chooses its accelerator then.
    _join_process_group(worker)
    import deepspeed
    import torch

    assert config.precision != "auto", "settle_precision comes first"
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # An optimizer named in DeepSpeed's config would compile FusedAdam; this one needs no compiler.
    optimizer = torch.optim.AdamW(
        _decay_groups(trained, trial.weight_decay), lr=trial.learning_rate, fused=True
    )
    warmup_steps = max(1, round(trial.warmup_fraction * total_steps))

    def learning_rate_factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_factor)
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        lr_scheduler=schedule,
        model_parameters=trained,
        config=_deepspeed_settings(trial, config, worker),
    )
    try:
        yield Engine(engine)
    finally:
        engine.destroy()


def _decay_groups(parameters: "list[nn.Parameter]", weight_decay: float) -> list[dict[str, Any]]:
    # Biases and LayerNorm's gains are not decayed, as in BERT's own training.
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _deepspeed_settings(
    trial: "TrialConfig", config: DeepSpeedConfig, worker: "Worker"
) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": -(-trial.batch_size // worker.world_size),
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.gradient_clipping,
        "zero_optimization": {"stage": config.zero_stage},
        "bf16": {"enabled": config.precision == "bf16"},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }


def _join_process_group(worker: "Worker") -> None:
    """Make sure that torch.distributed and DeepSpeed know the trial's workers."""
    import torch
    from torch._C._distributed_c10d import HashStore

    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # DeepSpeed 0.19 calls collectives by the names that torch 2.13 deprecates, at every step.
    warnings.filterwarnings("ignore", "`torch.distributed.*` is deprecated", FutureWarning)
    import deepspeed
    import deepspeed.ops

    # DeepSpeed would compile a shared-memory collective at the first use (half a minute, or for
    # ever behind the lock file of a killed build). Gloo needs none; told that no operation can be
    # built, DeepSpeed doesn't start a compiler to find out either.
    if not torch.cuda.is_available():
        vars(deepspeed.ops)["__compatible_ops__"] = defaultdict(bool)
    found = torch.distributed.get_world_size() if torch.distributed.is_initialized() else None
    if found != worker.world_size and (found or worker.world_size > 1):
        raise RuntimeError(
            f"a trial of {worker.world_size} workers needs a process group of that many, found "
            f"{found or 'none'}; run it with clicktune search, which starts one"
        )
    if found is None:
        # A group of one in this process's memory: no port that somebody else could take.
        torch.distributed.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo",
            store=HashStore(),
            rank=0,
            world_size=1,
        )
    os.environ.setdefault("LOCAL_RANK", "0")
    deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
