"""A Tune trainable around it, one worker, in place."""

import os
from collections.abc import Callable, Generator
from importlib import import_module
from pathlib import Path
from typing import Any

from ray import tune

from spaces.trial_config import TrialConfig
from trainables.trial_setup import Progress, TrialSetup, Worker


def trial_result(number: int, progress: Progress, pids: list[int]) -> dict[str, Any]:
    """Say what a trial reports to Tune after an epoch; plain values only."""
    return {
        "trial_number": number,
        "epoch": progress.epoch,
        "metrics": dict(progress.metrics),
        "seconds": progress.seconds,
        "config_hash": progress.config_hash,
        "checkpoint": None if progress.checkpoint is None else progress.checkpoint.to_dict(),
        "pids": pids,
        "done": progress.done,
    }


def load_function(path: str) -> Callable[..., Any]:
    """Import what ``module:function`` names."""
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


class OneWorkerTrial(tune.Trainable):  # type: ignore[misc]
    """Iterates :func:`trainables.fine_tune.fine_tune` in its own process, one epoch a step.

    Tune hands the same process trial after trial (``reuse_actors=True``), so imports are paid once.
    The configuration holds ``number``, ``trial`` (a TrialConfig's fields), ``setup`` (a
    TrialSetup), ``checkpoints`` (this trial's folder) and ``resume_from`` (a checkpoint, or None).
    """

    fine_tune = "trainables.fine_tune:fine_tune"
    """What it iterates, as ``module:function``."""

    def setup(self, config: dict[str, Any]) -> None:
        """Start the trial that the configuration describes."""
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Drop the trial before, start the next one in this process."""
        self._progress.close()
        self._start(new_config)
        return True

    def _start(self, config: dict[str, Any]) -> None:
        setup: TrialSetup = config["setup"]
        if not setup.resources.gpus:
            # Ray doesn't hide GPUs from a process that asked for none. Set before torch looks.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._number: int = config["number"]
        resume_from = config["resume_from"]
        self._progress: Generator[Progress, None, None] = load_function(self.fine_tune)(
            TrialConfig(**config["trial"]),
            setup,
            Worker(num_threads=setup.resources.cpus_per_worker),
            checkpoints=Path(config["checkpoints"]),
            resume_from=None if resume_from is None else Path(resume_from),
        )

    def step(self) -> dict[str, Any]:
        """Train one epoch, write its checkpoint and report."""
        return trial_result(self._number, next(self._progress), [os.getpid()])

    def cleanup(self) -> None:
        """Release the engine."""
        self._progress.close()
