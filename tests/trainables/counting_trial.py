"""A trial that counts epochs instead of training, and fails on request: ``seed`` says how."""

import os
import signal
import time
from collections.abc import Generator
from pathlib import Path

import torch

from spaces.trial_config import TrialConfig
from trainables.checkpoint import checkpoint_folder
from trainables.trial_setup import CheckpointRecord, Progress, TrialSetup, Worker

RAISE, DIE = 101, 102
"""Seeds of trials whose last worker raises, or is killed, in the second epoch."""


def count_epochs(
    trial: TrialConfig,
    setup: TrialSetup,
    worker: Worker,
    *,
    checkpoints: Path,
    resume_from: Path | None = None,
) -> Generator[Progress, None, None]:
    first = 1 if resume_from is None else int(resume_from.name.removeprefix("epoch-")) + 1
    for epoch in range(first, trial.epochs + 1):
        last = worker.rank == worker.world_size - 1
        if epoch == 2 and last and trial.seed == RAISE:
            raise ArithmeticError("the second epoch is too much")
        if epoch == 2 and last and trial.seed == DIE:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        total = torch.ones(1)
        torch.distributed.all_reduce(total)
        folder = checkpoint_folder(checkpoints, epoch)
        torch.distributed.barrier()
        if worker.rank == 0:
            folder.mkdir(parents=True)
        yield Progress(
            epoch=epoch,
            metrics={"workers": float(total), "threads": float(torch.get_num_threads())},
            seconds=0.0,
            evaluate_seconds=0.0,
            config_hash=setup.config_hash(trial),
            done=epoch == trial.epochs,
            checkpoint=CheckpointRecord(path=str(folder), epoch=epoch, num_bytes=0),
        )
