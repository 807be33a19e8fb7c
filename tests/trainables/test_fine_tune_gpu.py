"""A trial on a GPU: it learns in bf16, resumes, and shares the device."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter

from spaces.trial_config import TrialConfig
from trainables.deepspeed_config import DeepSpeedConfig
from trainables.fine_tune import fine_tune
from trainables.trial_setup import Progress, TrialSetup, Worker

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

TRIAL = TrialConfig(method="full", learning_rate=3e-3, batch_size=16, epochs=3)


@pytest.fixture
def bf16_setup(tiny_setup: TrialSetup) -> TrialSetup:
    return dataclasses.replace(tiny_setup, deepspeed=DeepSpeedConfig(precision="bf16"))


def _train(
    trial: TrialConfig, setup: TrialSetup, resume_from: Path | None = None
) -> list[Progress]:
    return list(fine_tune(trial, setup, Worker(), resume_from=resume_from))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_trial_in_bf16_learns_what_the_words_say(bf16_setup: TrialSetup, method: str) -> None:
    rate = 3e-3 if method == "full" else 1e-2
    trial = dataclasses.replace(TRIAL, method=method, learning_rate=rate)  # type: ignore[arg-type]
    # A process's first trial leaves the libraries' own workspaces.
    _train(trial, bf16_setup)
    before = torch.cuda.memory_allocated()

    progress = _train(trial, bf16_setup)

    assert progress[-1].metrics["roc_auc"] > 0.6
    assert progress[-1].metrics["train_loss"] < progress[0].metrics["train_loss"]
    # What a trial had on the device is free again.
    assert torch.cuda.memory_allocated() - before < 1e6


def test_a_trial_resumed_on_the_gpu_ends_as_one_left_alone(
    bf16_setup: TrialSetup, tmp_path: Path
) -> None:
    running = fine_tune(TRIAL, bf16_setup, Worker(), checkpoints=tmp_path)
    _, *rest = (progress.metrics["train_loss"] for progress in running)

    resumed = _train(TRIAL, bf16_setup, tmp_path / "epoch-0001")

    # Not to the last digit: a GPU adds in an order that may change.
    assert [p.metrics["train_loss"] for p in resumed] == pytest.approx(rest, rel=1e-2)


def test_cached_states_give_the_losses_of_computed_ones_on_the_gpu(
    bf16_setup: TrialSetup,
) -> None:
    trial = dataclasses.replace(TRIAL, tuned_layers=1, dropout=0.0)
    without = dataclasses.replace(
        bf16_setup, encoder=dataclasses.replace(bf16_setup.encoder, cache_gb=0.0)
    )

    computed = [p.metrics["train_loss"] for p in _train(trial, without)]
    cached = [p.metrics["train_loss"] for p in _train(trial, bf16_setup)]

    assert cached == pytest.approx(computed, rel=2e-2)


def test_two_trials_train_on_one_gpu_at_a_time(bf16_setup: TrialSetup) -> None:
    code = (
        "import sys\n"
        "from pydantic import TypeAdapter\n"
        "from spaces.trial_config import TrialConfig\n"
        "from trainables.fine_tune import fine_tune\n"
        "from trainables.trial_setup import TrialSetup, Worker\n"
        "setup = TypeAdapter(TrialSetup).validate_json(sys.argv[1])\n"
        "trial = TrialConfig(batch_size=16, epochs=2, seed=int(sys.argv[2]))\n"
        "*_, last = fine_tune(trial, setup, Worker())\n"
        "print(last.metrics['train_loss'])\n"
    )
    setup = TypeAdapter(TrialSetup).dump_json(bf16_setup).decode()
    trials = [
        subprocess.Popen(
            [sys.executable, "-c", code, setup, str(seed)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(2)
    ]

    losses = [trial.communicate(timeout=300)[0].strip().rpartition("\n")[2] for trial in trials]

    assert [trial.returncode for trial in trials] == [0, 0]
    assert all(0 < float(loss) < 1 for loss in losses)
