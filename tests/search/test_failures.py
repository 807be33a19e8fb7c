"""What Ray tells of a failed process is read as memory that ran out, or left as it is."""

import errno
import os

import pytest

from search.failures import read_failure
from spaces.trial_config import TrialConfig
from trainables.checkpoint import DamagedCheckpointError
from trainables.out_of_memory import TrialOutOfMemoryError

DIVERGED = "TrainingDivergedError"
TRIAL = TrialConfig(batch_size=64, method="full")
KILLED_BY_MONITOR = """1 worker(s) were killed due to the node running low on memory. Memory on the
node (IP: 192.0.2.2, ID: 0ab9) was 4.43GB used / 23.54GB limit (0.187999)
OOM kill reason: Memory usage 4751958016B exceeded threshold of 3033181696B
Refer to the documentation on how to address the out of memory issue: https://docs.ray.io. Consider
provisioning more memory on this node or reducing task parallelism.
"""
KILLED_BY_SYSTEM = """The actor died unexpectedly before finishing this task.
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit
detail: Worker unexpectedly exits with a connection error code 2. End of file. Some common causes
include: (1) the process was killed by the OOM killer due to high memory usage, (2) ray stop
"""


@pytest.mark.parametrize("frame", ["{}", "trial 3: worker 1 failed:\nTraceback (most recent\n{}\n"])
def test_a_trial_that_ran_out_by_itself_is_not_tried_again(frame: str) -> None:
    text = "out of memory with batch_size 64, rows of up to 44 tokens; use batch_size 8"
    error = f"trainables.out_of_memory.{TrialOutOfMemoryError.__name__}: {text}"

    failure = read_failure(frame.format(error), TRIAL)

    assert failure.text == text
    assert not failure.retry


# The page's beginning may be cut off.
@pytest.mark.parametrize("text", [KILLED_BY_MONITOR, KILLED_BY_MONITOR[-180:]])
def test_a_trial_that_ray_killed_for_its_machine_is_tried_again(text: str) -> None:
    failure = read_failure(text, TRIAL)

    assert failure.retry
    assert failure.text.startswith("its process was killed by Ray, because its machine ran low")
    assert "batch_size is 64; use a smaller batch_size, set deepspeed.micro" in failure.text


def test_a_process_without_last_words_may_have_been_killed_for_memory() -> None:
    failure = read_failure(KILLED_BY_SYSTEM, TRIAL)

    assert failure.retry
    assert failure.text.startswith("The actor died unexpectedly")
    assert "perhaps because memory ran out: batch_size is 64;" in failure.text.splitlines()[-1]


def test_a_trial_that_diverged_is_not_tried_again() -> None:
    text = "the training loss became nan in epoch 2; learning_rate 0.1 is likely too high"

    failure = read_failure(f"trainables.fine_tune.{DIVERGED}: {text}\n", TRIAL)

    assert failure.text == f"diverged: {text}"
    assert not failure.retry


def test_a_damaged_checkpoint_is_to_blame_itself() -> None:
    text = "the checkpoint /runs/epoch-0002 is damaged (EOFError: Ran out of input)"

    failure = read_failure(f"{DamagedCheckpointError.__name__}: {text}\nand more", TRIAL)

    assert failure.text == text
    assert failure.blame == "checkpoint"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.safetensors"),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        OSError("can't write state.pt (unexpected pos 128 vs 0); is the disk full?"),
    ],
)
def test_a_full_disk_is_no_fault_of_the_trial(error: OSError) -> None:
    failure = read_failure(f"Traceback\nOSError: {error}\n", TRIAL)

    assert failure.text == f"OSError: {error}"
    assert failure.blame == "disk"


def test_another_error_is_kept_as_it_is() -> None:
    failure = read_failure("ValueError: no such word", TRIAL)

    assert failure.text == "ValueError: no such word"
    assert failure.retry
