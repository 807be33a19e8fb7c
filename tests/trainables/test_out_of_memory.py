"""A trial that runs out of memory says so, says what fits, and leaves its process usable."""

import errno
import json
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path

import pytest
import torch

from spaces.trial_config import TrialConfig
from tests.trainables.short_of_memory import MAX_TOKENS, write_long_rows
from trainables.data.prepared import PreparedData, prepare
from trainables.data.table import load_clicks
from trainables.encoder import EncoderConfig, encoder_fingerprint
from trainables.fine_tune import fine_tune
from trainables.out_of_memory import (
    TrialOutOfMemoryError,
    explain_out_of_memory,
    is_out_of_memory,
    suggest_smaller,
)
from trainables.task import TaskConfig
from trainables.trial_setup import TrialSetup, Worker

TRAIN = """
import json, re, sys
from pathlib import Path
from spaces.trial_config import TrialConfig
from tests.trainables.short_of_memory import leave_room
from trainables.deepspeed_config import DeepSpeedConfig
from trainables.encoder import EncoderConfig
from trainables.fine_tune import fine_tune
from trainables.out_of_memory import TrialOutOfMemoryError
from trainables.trial_setup import TrialSetup, Worker

facts = json.loads(sys.argv[1])
facts["encoder"] = EncoderConfig(**facts["encoder"])
setup = TrialSetup(**facts, deepspeed=DeepSpeedConfig(precision="fp32"))

def epoch(batch_size):
    trial = TrialConfig(method="full", batch_size=batch_size, epochs=1)
    running = fine_tune(trial, setup, Worker())
    return next(running).metrics["train_loss"]

epoch(32)
leave_room()
try:
    epoch(1800)
except TrialOutOfMemoryError as error:
    print(error)
    suggested = int(re.search(r"use batch_size (\\d+)", str(error))[1])
print(epoch(suggested))
"""


def test_a_trial_short_of_memory_names_a_batch_size_that_then_fits(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    encoder = EncoderConfig(name=str(tiny_encoder), max_tokens=MAX_TOKENS)
    data = prepare(load_clicks(write_long_rows(tmp_path), TaskConfig()), encoder, tmp_path)
    facts = {
        "data_folder": str(data.folder),
        "data_fingerprint": data.fingerprint,
        "encoder_fingerprint": encoder_fingerprint(tiny_encoder),
        "encoder": {"name": encoder.name, "max_tokens": MAX_TOKENS},
    }

    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TRAIN), json.dumps(facts)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    text, loss = ended.stdout.splitlines()[-2:]
    assert text.startswith(f"out of memory with batch_size 1800, rows of up to {MAX_TOKENS} tokens")
    assert "deepspeed.micro_batch_rows" in text
    assert float(loss) < 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("DefaultCPUAllocator: not enough memory"), False),
    ],
)
def test_errors_of_memory_are_told_from_others(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def fail(error: Exception, tiny_setup: TrialSetup, held: list[weakref.ref[torch.Tensor]]) -> None:
    """Raise an error from a frame that holds a tensor, as a step does."""
    data = PreparedData.open(Path(tiny_setup.data_folder))

    def step() -> None:
        activations = torch.zeros(8)
        held.append(weakref.ref(activations))
        raise error

    with explain_out_of_memory(TrialConfig(batch_size=64), tiny_setup, data):
        step()


def test_what_the_failed_step_held_is_released_while_the_error_lives(
    tiny_setup: TrialSetup,
) -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    with pytest.raises(
        TrialOutOfMemoryError, match=r"batch_size 64, .*2\.1 GB more could not be had"
    ) as caught:
        fail(torch.OutOfMemoryError("Tried to allocate 2.00 GiB."), tiny_setup, held)

    assert caught.value is not None
    assert held[0]() is None


@pytest.mark.gpu
def test_a_process_trains_on_after_its_gpu_was_full(tiny_setup: TrialSetup) -> None:
    free = torch.cuda.mem_get_info()[0]
    data = PreparedData.open(Path(tiny_setup.data_folder))

    def fill() -> None:
        with explain_out_of_memory(TrialConfig(), tiny_setup, data):
            held = [torch.empty(free // 4, dtype=torch.uint8, device="cuda") for _ in range(5)]
            assert held

    with pytest.raises(TrialOutOfMemoryError, match="of GPU memory that there are for it"):
        fill()

    torch.empty(free // 2, dtype=torch.uint8, device="cuda")
    assert next(fine_tune(TrialConfig(epochs=1), tiny_setup, Worker())).done


def test_other_errors_pass_as_they_are(tiny_setup: TrialSetup) -> None:
    error = RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else") as caught:
        fail(error, tiny_setup, [])

    assert caught.value is error


def test_only_what_the_trial_does_not_do_already_is_suggested() -> None:
    small = TrialConfig(batch_size=1, method="lora", tuned_layers=1)

    assert "tuned_layers" not in suggest_smaller(small)
    assert "lora" not in suggest_smaller(small)
    assert "use " not in suggest_smaller(small)
    assert suggest_smaller(TrialConfig(method="full"), batch=8).startswith("use batch_size 8, ")
    # Each setting by the name under which it has an effect.
    tokens = suggest_smaller(TrialConfig(batch_tokens=640))
    assert tokens.startswith("use a smaller batch_tokens, ")
    parts = suggest_smaller(TrialConfig(), micro_batch_rows=16, fitting_rows=4)
    assert parts.startswith("lower deepspeed.micro_batch_rows from 16 to 4, ")
