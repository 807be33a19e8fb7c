"""One process takes trial after trial and leaves a checkpoint behind each epoch."""

import os
from pathlib import Path
from typing import Any

import pytest

from spaces.trial_config import TrialConfig
from trainables.checkpoint import read_checkpoint_info
from trainables.trial import OneWorkerTrial
from trainables.trial_setup import TrialSetup


def _config(number: int, setup: TrialSetup, folder: Path, seed: int = 0) -> dict[str, Any]:
    trial = TrialConfig(method="full", learning_rate=1e-3, batch_size=16, epochs=2, seed=seed)
    return {
        "number": number,
        "trial": {name: getattr(trial, name) for name in TrialConfig.__slots__},
        "setup": setup,
        "checkpoints": str(folder / f"trial-{number:04d}"),
        "resume_from": None,
    }


@pytest.fixture
def trainable(tiny_setup: TrialSetup, tmp_path: Path) -> OneWorkerTrial:
    return OneWorkerTrial(_config(0, tiny_setup, tmp_path))


def test_each_step_is_an_epoch_with_its_checkpoint(
    trainable: OneWorkerTrial, tiny_setup: TrialSetup, tmp_path: Path
) -> None:
    results = [trainable.train(), trainable.train()]
    trainable.stop()

    assert [(r["trial_number"], r["epoch"], r["done"]) for r in results] == [
        (0, 1, False),
        (0, 2, True),
    ]
    assert results[0]["pids"] == [os.getpid()]
    for result in results:
        info = read_checkpoint_info(Path(result["checkpoint"]["path"]))
        assert info.epoch == result["epoch"]
        assert info.metrics == result["metrics"]
        assert result["config_hash"] == info.config_hash == tiny_setup.config_hash(info.trial)
    assert [path.name for path in sorted((tmp_path / "trial-0000").iterdir())] == [
        "epoch-0001",
        "epoch-0002",
    ]


def test_a_reused_process_trains_the_next_trial_as_a_new_one_would(
    trainable: OneWorkerTrial, tiny_setup: TrialSetup, tmp_path: Path
) -> None:
    trainable.train()
    assert trainable.reset_config(_config(1, tiny_setup, tmp_path, seed=5))
    reused = trainable.train()
    trainable.stop()

    fresh = OneWorkerTrial(_config(2, tiny_setup, tmp_path, seed=5))
    expected = fresh.train()
    fresh.stop()

    assert reused["trial_number"] == 1
    assert reused["metrics"] == expected["metrics"]


def test_a_trial_goes_on_from_a_checkpoint(
    trainable: OneWorkerTrial, tiny_setup: TrialSetup, tmp_path: Path
) -> None:
    first, second = trainable.train(), trainable.train()
    resumed = {
        **_config(0, tiny_setup, tmp_path / "resumed"),
        "resume_from": first["checkpoint"]["path"],
    }

    assert trainable.reset_config(resumed)
    result = trainable.train()
    trainable.stop()

    assert (result["epoch"], result["metrics"]) == (2, second["metrics"])
