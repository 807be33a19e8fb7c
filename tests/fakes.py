"""A trial without a model: the same contract as the real trainables, in milliseconds."""

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

from spaces.trial_config import TrialConfig
from trainables.checkpoint import (
    INFO_FILE,
    CheckpointInfo,
    folder_bytes,
    read_checkpoint_info,
)
from trainables.data.fields import FieldShapes
from trainables.trial_setup import CheckpointRecord, TrialSetup

TRAINED_LOG = "trained.jsonl"
"""Lists, beside a study's checkpoints, every epoch that any process trained."""


def fake_setup() -> TrialSetup:
    """Return a setup that names no real data."""
    return TrialSetup(data_folder="", data_fingerprint="d", encoder_fingerprint="e")


def fake_metric(config: TrialConfig, epoch: int) -> float:
    """Return a metric that depends on the configuration and rises with the epochs."""
    text = json.dumps(config.effective(), sort_keys=True)
    quality = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32
    return 0.5 + 0.3 * quality + 0.05 * (1 - 0.5**epoch)


def save_fake_checkpoint(
    folder: Path, epoch: int, config: TrialConfig | None = None, setup: TrialSetup | None = None
) -> CheckpointRecord:
    """Write a checkpoint's files: weights of 64 bytes, training state of 256, a description."""
    config, setup = config or TrialConfig(), setup or fake_setup()
    info = CheckpointInfo(
        trial=config,
        setup=setup,
        num_segments=1,
        fields=FieldShapes(),
        epoch=epoch,
        metrics={},
        config_hash=setup.config_hash(config),
    )
    (folder / "training").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(64))
    (folder / "training" / "state").write_bytes(bytes(256))
    (folder / INFO_FILE).write_text(json.dumps(dataclasses.asdict(info)))
    return CheckpointRecord(path=str(folder), epoch=epoch, num_bytes=folder_bytes(folder))


def fake_result(
    number: int, config: TrialConfig, setup: TrialSetup, epoch: int, checkpoints: Path
) -> dict[str, Any]:
    """Return what a trial reports after an epoch."""
    record = save_fake_checkpoint(checkpoints / f"epoch-{epoch:04d}", epoch, config, setup)
    value = fake_metric(config, epoch)
    return {
        "trial_number": number,
        "epoch": epoch,
        "metrics": {"roc_auc": value, "log_loss": 1 - value, "train_loss": 1 / epoch},
        "seconds": 0.01,
        "config_hash": setup.config_hash(config),
        "checkpoint": record.to_dict(),
        "pids": [os.getpid()],
        "done": epoch >= config.epochs,
    }


def read_trained(folder: Path) -> list[tuple[int, int, int]]:
    """Return (trial, epoch, process) of every epoch that was trained in a study's folder."""
    path = folder / "checkpoints" / TRAINED_LOG
    lines = path.read_text().splitlines() if path.exists() else []
    return [tuple(json.loads(line)) for line in lines]


class FakeTrial(tune.Trainable):
    """Takes the configuration of the real trainables and keeps their contract.

    The environment variable ``FAKE_EPOCH_S`` says how long an epoch takes. A dropout of 0.5 makes
    the first try of a trial kill its own process after one epoch; one of 0.6 raises at once; one of
    0.7 reports NaN.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._start(new_config)
        return True

    def _start(self, config: Mapping[str, Any]) -> None:
        self._number: int = config["number"]
        self._trial = TrialConfig(**config["trial"])
        self._setup: TrialSetup = config["setup"]
        self._checkpoints = Path(config["checkpoints"])
        resume_from = config["resume_from"]
        self._epoch = 0
        if resume_from is not None:
            assert (Path(resume_from) / "training").is_dir()
            info = read_checkpoint_info(Path(resume_from))
            assert info.config_hash == self._setup.config_hash(self._trial)
            self._epoch = info.epoch

    def step(self) -> dict[str, Any]:
        if self._trial.dropout == 0.6:
            raise RuntimeError("this trial never works")
        first_try = self._checkpoints.name.count(".") == 0
        if self._trial.dropout == 0.5 and first_try and self._epoch == 1:
            os._exit(1)
        time.sleep(float(os.environ.get("FAKE_EPOCH_S", "0.01")))
        self._epoch += 1
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        with (self._checkpoints.parent / TRAINED_LOG).open("a") as log:
            log.write(json.dumps([self._number, self._epoch, os.getpid()]) + "\n")
        result = fake_result(self._number, self._trial, self._setup, self._epoch, self._checkpoints)
        if self._trial.dropout == 0.7:
            result["metrics"]["roc_auc"] = float("nan")
        return result
