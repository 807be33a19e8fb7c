"""A model under DeepSpeed: steps, state on disk, start and end (the only importer of deepspeed)."""

import atexit
import concurrent.futures
import contextlib
import gc
import logging
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spaces.trial_config import TrialConfig
from trainables.deepspeed_config import DeepSpeedConfig
from trainables.trial_setup import Worker

FIELDS_PREFIX = "tower."
IA3_NAME = "ia3_"
"""Part of the names of IA3's factors."""
"""How the names of the weights begin that join fields and text (``trainables/model.py``); they have
a learning rate of their own."""


class Engine:
    """A model under DeepSpeed: forward, backward, step, and its state on disk."""

    def __init__(
        self,
        engine: Any,  # noqa: ANN401 - DeepSpeed ships no types
        optimizer: torch.optim.Optimizer,
        config: DeepSpeedConfig,
    ) -> None:
        """Take over a DeepSpeed engine that was made of an optimizer and a configuration."""
        self._engine = engine
        self._optimizer = optimizer
        self._is_plain = _is_plain(config)
        self._clipping = config.gradient_clipping if self._is_plain else 0.0
        self._trained = [p for p in engine.module.parameters() if p.requires_grad]
        self._writer = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        self._writing: list[concurrent.futures.Future[Any]] = []
        if self._is_plain:
            # DeepSpeed's looks through the whole model for what has a gradient.
            engine.zero_grad = engine.optimizer.zero_grad
        write = engine.checkpoint_engine.save
        engine.checkpoint_engine.save = lambda state_dict, path: self._write(
            write, state_dict, path
        )

    @property
    def device(self) -> torch.device:
        """Where a batch has to be."""
        device: torch.device = self._engine.device
        return device

    @property
    def module(self) -> nn.Module:
        """The model; under ZeRO 3 its weights are sharded between forward passes."""
        module: nn.Module = self._engine.module
        return module

    def train(self) -> None:
        """Turn dropout on."""
        self._engine.train()

    def eval(self) -> None:
        """Turn dropout off."""
        self._engine.eval()

    def forward(self, **batch: torch.Tensor | float | None) -> torch.Tensor:
        """Run the model."""
        output: torch.Tensor = self._engine(**batch)
        return output

    def accumulate(self, *, is_last: bool) -> None:
        """Announce a part of a batch that goes through the model in parts.

        Args:
            is_last: Whether the gradient is complete with it, and so averaged over the workers.
        """
        self._engine.set_gradient_accumulation_boundary(is_last)

    def backward(self, loss: torch.Tensor) -> None:
        """Add up the gradient, and average it over the workers with a batch's last part."""
        self._engine.backward(loss)

    def step(self) -> None:
        """Clip the gradient, update weights and learning rate."""
        if self._clipping:
            nn.utils.clip_grad_norm_(self._trained, self._clipping)
        self._engine.step()

    def trained_weights(self) -> dict[str, torch.Tensor]:
        """Gather the weights that train, as float32 on the CPU; every worker must call it.

        Returns:
            Name to tensor; empty on all workers but the first. On a CPU without ZeRO 3 they are the
            model's own, not a copy.
        """
        import deepspeed

        trained = {n: p for n, p in self.module.named_parameters() if p.requires_grad}
        sharded = [p for p in trained.values() if hasattr(p, "ds_id")]
        with deepspeed.zero.GatheredParameters(sharded, enabled=bool(sharded)):
            if self._engine.global_rank != 0:
                return {}
            return {
                name: parameter.detach().to("cpu", torch.float32, copy=bool(sharded)).contiguous()
                for name, parameter in trained.items()
            }

    def start_saving(self, folder: Path, weights: Path) -> None:
        """Begin to write the state to train on, and the weights, in a thread.

        Every worker must call it, and :meth:`finish_saving` before the next :meth:`step`: what is
        written is the engine's own memory.

        Args:
            folder: Gets optimizer, schedule and weights as DeepSpeed keeps them.
            weights: Safetensors file of :meth:`trained_weights`.
        """
        self._engine.save_checkpoint(
            str(folder), tag="state", save_latest=False, exclude_frozen_parameters=True
        )
        if trained := self.trained_weights():
            self._write(_write_weights, trained, weights)

    def finish_saving(self) -> None:
        """Wait until everything is written.

        Raises:
            OSError: if it couldn't be.
        """
        writing, self._writing = self._writing, []
        for future in writing:
            future.result()

    def _write(self, write: Callable[[Any, Any], Any], content: object, path: object) -> None:
        self._writing.append(self._writer.submit(_write_file, write, content, path))

    def load(self, folder: Path) -> None:
        """Go on from :meth:`start_saving`'s folder; every worker must call it.

        Learning rates and weight decay stay those that this engine was opened with: the state may
        be another trial's, which had others.

        Raises:
            RuntimeError: if the folder holds no complete state of this engine.
        """
        if not any((folder / "state").glob("*.pt")):
            raise RuntimeError(f"no training state in {folder}; the checkpoint is incomplete")
        own = [(group["initial_lr"], group["weight_decay"]) for group in self._groups]
        self._engine.load_checkpoint(str(folder), tag="state", load_module_strict=False)
        schedule = self._engine.lr_scheduler
        # The optimizer's state and the schedule's bring the values with which they were saved.
        schedule.base_lrs = [rate for rate, _decay in own]
        for group, (rate, decay), factor in zip(
            self._groups, own, schedule.lr_lambdas, strict=True
        ):
            group["initial_lr"], group["weight_decay"] = rate, decay
            group["lr"] = rate * factor(schedule.last_epoch)

    @property
    def _groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = self._optimizer.param_groups
        return groups

    def close(self) -> None:
        """Let go of the model's trained weights and the optimizer's state; nothing works after it.

        DeepSpeed's engine and the model refer to each other: left to the garbage collector's own
        time, several trials' weights would pile up.
        """
        self._writer.shutdown(wait=True)
        self._engine.destroy()
        # Its finalizer would look through the whole model again, while another trial runs.
        self._engine.destroy = lambda: None
        if (wrapper := self._engine.optimizer) is not self._optimizer:
            # Hooks on the weights keep ZeRO's optimizer, with flat copies of all of them, for ever:
            # the garbage collector doesn't see through torch's graph.
            vars(wrapper).clear()
        self._optimizer.state.clear()
        self._optimizer.param_groups.clear()
        if not self._is_plain:
            for weight in self._engine.module.parameters():
                # This process's part of a weight under ZeRO 3.
                vars(weight).pop("ds_tensor", None)
        for weight in self._trained:
            weight.grad = None
            weight.data = torch.empty(0, dtype=weight.dtype, device=weight.device)
        self._engine = None

    def barrier(self) -> None:
        """Wait for all workers of the trial."""
        torch.distributed.barrier()

    def all_workers(self, agrees: bool) -> bool:
        """Return whether every worker says yes; all of them must call it."""
        votes = self.add_over_workers(torch.tensor(float(agrees), device=self.device))
        return float(votes) == torch.distributed.get_world_size()

    def add_over_workers(self, tensor: torch.Tensor) -> torch.Tensor:
        """Replace a tensor by its sum over the trial's workers, and return it."""
        torch.distributed.all_reduce(tensor)
        return tensor


def _write_file(write: Callable[[Any, Any], Any], content: object, path: object) -> None:
    from safetensors import SafetensorError

    try:
        write(content, path)
    except (RuntimeError, SafetensorError) as error:
        # torch's writer says of a full disk no more than "unexpected pos 128 vs 0".
        raise OSError(f"can't write {path} ({error}); is the disk full?") from error


def _write_weights(weights: Mapping[str, torch.Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(dict(weights), path)


@contextlib.contextmanager
def open_engine(
    model: nn.Module,
    trial: TrialConfig,
    config: DeepSpeedConfig,
    worker: Worker,
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

    assert config.precision != "auto", "settle_precision comes first"
    if not _is_plain(config):
        # ZeRO keeps flat copies of the weights of the trial before in cycles.
        gc.collect()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # An optimizer named in DeepSpeed's config would compile FusedAdam; this one needs no compiler.
    optimizer = torch.optim.AdamW(
        _parameter_groups(model, trial), lr=trial.learning_rate, fused=True
    )
    warmup_steps = max(1, round(trial.warmup_fraction * total_steps))

    def learning_rate_factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_factor)
    with _no_broadcast() if worker.world_size == 1 else contextlib.nullcontext():
        engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            lr_scheduler=schedule,
            model_parameters=trained,
            config=_deepspeed_settings(trial, config, worker),
        )
    if worker.world_size == 1 and config.zero_stage == 0:
        # DeepSpeed would copy all gradients into a buffer and back to add up those of one worker:
        # 14 % of a step that trains all parameters.
        engine.enable_backward_allreduce = False
    opened = Engine(engine, optimizer, config)
    del engine
    try:
        yield opened
    finally:
        opened.close()


@contextlib.contextmanager
def _no_broadcast() -> Iterator[None]:
    """Keep DeepSpeed from sending one worker all weights of its own, one by one, as it starts.

    It has no setting for it, and it is a fifth of a warm trial's start.
    """
    from deepspeed.runtime.engine import DeepSpeedEngine

    broadcast = DeepSpeedEngine._broadcast_model
    DeepSpeedEngine._broadcast_model = lambda _engine: None
    try:
        yield
    finally:
        DeepSpeedEngine._broadcast_model = broadcast


def _is_plain(config: DeepSpeedConfig) -> bool:
    """Return whether torch's own optimizer steps, with no wrapper of DeepSpeed's around it."""
    return config.zero_stage == 0


def _parameter_groups(model: nn.Module, trial: TrialConfig) -> list[dict[str, Any]]:
    """Divide what trains by how it trains: with weight decay or not, and at which rate.

    The division doesn't depend on the values, so that a trial can go on from the state of one that
    had others.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        # Biases and LayerNorm's gains are not decayed, as in BERT's own training; nor are factors
        # that start at 1.
        decays = parameter.ndim > 1 and IA3_NAME not in name
        groups.setdefault((name.startswith(FIELDS_PREFIX), decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": trial.field_learning_rate if is_field else trial.learning_rate,
            "weight_decay": trial.weight_decay if decays else 0.0,
        }
        for (is_field, decays), parameters in groups.items()
    ]


def _deepspeed_settings(
    trial: TrialConfig, config: DeepSpeedConfig, worker: Worker
) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": config.zero_stage}
    if config.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": -(-trial.batch_size // worker.world_size),
        "gradient_accumulation_steps": 1,
        # DeepSpeed would clip over all parameters, and look through the whole model for them.
        "gradient_clipping": 0.0 if _is_plain(config) else config.gradient_clipping,
        "zero_optimization": zero,
        # DeepSpeed's own optimizer for the CPU would have to be compiled.
        "zero_force_ds_cpu_optimizer": False,
        # Weights stay float32. DeepSpeed's own bf16 weights need an optimizer that keeps and moves
        # float32 copies, which took a GPU half of a step that trains all parameters.
        "torch_autocast": {"enabled": config.precision == "bf16", "dtype": "bfloat16"},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }


def _join_process_group(worker: Worker) -> None:
    """Make sure that torch.distributed and DeepSpeed know the trial's workers."""
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
        has_gpu = torch.cuda.is_available()
        torch.distributed.init_process_group(
            "nccl" if has_gpu else "gloo",
            store=HashStore(),
            rank=0,
            world_size=1,
            # Collectives warn where they have to guess it.
            device_id=torch.device("cuda", torch.cuda.current_device()) if has_gpu else None,
        )
        atexit.register(_leave_process_group)
    os.environ.setdefault("LOCAL_RANK", "0")
    deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)


def _leave_process_group() -> None:
    """End the group's threads before the interpreter: those that outlive it abort the process."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
