"""The suite's trial without a model, with faults at given trials, epochs and tries."""

import errno
import json
import math
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tests.fakes import FakeTrial

FAULTS = "CLICKTUNE_TEST_FAULTS"
"""Environment variable with the faults of a study's trials, which its processes inherit."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    kind: Literal["raise", "nan", "memory", "gpu_memory", "kill", "sleep", "freeze", "fill_disk"]
    """kill: as the kernel does where memory runs out; sleep: for an hour; freeze: SIGSTOP, so that
    no thread of the process answers; fill_disk: fill ``ballast``'s file system after training."""
    trial: int
    epoch: int = 2
    """Before this epoch, but for nan and fill_disk, which are with its report."""
    tries: int = 100
    """The first tries of the trial have the fault."""
    ballast: str = ""


def as_environment(*faults: Fault) -> dict[str, str]:
    return {FAULTS: json.dumps([asdict(fault) for fault in faults])}


class FaultyTrial(FakeTrial):
    def _start(self, config: Mapping[str, Any]) -> None:
        super()._start(config)
        # The folder of a later try ends with its number.
        _name, _dot, number = self._checkpoints.name.partition(".")
        faults = [Fault(**fault) for fault in json.loads(os.environ.get(FAULTS, "[]"))]
        self._faults = [
            fault
            for fault in faults
            if fault.trial == self._number and int(number or 1) <= fault.tries
        ]

    def step(self) -> dict[str, Any]:
        due = [fault for fault in self._faults if fault.epoch == self._epoch + 1]
        for fault in due:
            suffer(fault.kind)
        result = super().step()
        for fault in due:
            if fault.kind == "nan":
                result["metrics"]["roc_auc"] = math.nan
            elif fault.kind == "fill_disk":
                fill_disk(Path(fault.ballast))
        return result


def suffer(kind: str) -> None:
    if kind == "raise":
        raise RuntimeError("this trial never works")
    if kind == "memory":
        raise MemoryError
    if kind == "gpu_memory":
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    if kind == "sleep":
        time.sleep(3600)


def fill_disk(ballast: Path) -> None:
    """Write until nothing more fits, not a byte."""
    with ballast.open("ab", buffering=0) as file:
        size = 1 << 16
        while size:
            try:
                file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2
