"""A Tune trainable around it, one worker, in place."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from ray import tune

from spaces.trial_config import TrialConfig
from trainables.checkpoint import checkpoint_folder
from trainables.trial_setup import CheckpointRecord, Progress, TrialSetup, Worker


def trial_result(
    number: int, progress: Progress, checkpoint: CheckpointRecord, pids: list[int]
) -> dict[str, Any]:
    """Say what a trial reports to Tune after an epoch; plain values only."""
    return {
        "trial_number": number,
        "epoch": progress.epoch,
        "metrics": dict(progress.metrics),
        "seconds": progress.seconds,
        "config_hash": progress.config_hash,
        "checkpoint": checkpoint.to_dict(),
        "pids": pids,
        "done": progress.done,
    }


class OneWorkerTrial(tune.Trainable):  # type: ignore[misc]
    """Iterates :func:`trainables.fine_tune.fine_tune` in its own process, one epoch a step.

    Tune hands the same process trial after trial (``reuse_actors=True``), so imports are paid once.
    The configuration holds ``number``, ``trial`` (a TrialConfig's fields), ``setup`` (a
    TrialSetup), ``checkpoints`` (this trial's folder) and ``resume_from`` (a checkpoint, or None).
    """

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
        # Imported here, so that a driver that only names this class doesn't load torch.
        from trainables.fine_tune import fine_tune

        self._number: int = config["number"]
        self._checkpoints = Path(config["checkpoints"])
        resume_from = config["resume_from"]
        self._progress: Generator[Progress, None, None] = fine_tune(
            TrialConfig(**config["trial"]),
            setup,
            Worker(num_threads=setup.resources.cpus_per_worker),
            resume_from=None if resume_from is None else Path(resume_from),
        )

    def step(self) -> dict[str, Any]:
        """Train one epoch, write its checkpoint and report."""
        progress = next(self._progress)
        record = progress.save(checkpoint_folder(self._checkpoints, progress.epoch))
        return trial_result(self._number, progress, record, [os.getpid()])

    def cleanup(self) -> None:
        """Release the engine."""
        self._progress.close()
