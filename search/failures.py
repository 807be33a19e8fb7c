"""Why a trial's process failed, what is to blame, and whether another try could end otherwise."""

import errno
import re
from dataclasses import dataclass
from typing import Literal

from spaces.trial_config import TrialConfig
from trainables.checkpoint import DamagedCheckpointError
from trainables.out_of_memory import TrialOutOfMemoryError, suggest_smaller

MEMORY_MONITOR = ("running low on memory", "address the out of memory issue")
"""What Ray 2.60 says, first and last in a page of figures, when its memory monitor has killed."""

ENDED = ("killed by the OOM killer", "connection error code 2")
"""What it says of any process that ended without a word, the system's killer being one cause."""

KILLED = re.compile(r"\bSIGKILL\b|(?i:signal|exit code) -?9\b")
"""What shows that a process was killed, which few but the system's killer do."""

DISK_FULL = ("No space left on device", "Disk quota exceeded", "is the disk full?")
"""What the system says where a file can't be written, and what ``trainables/engine.py`` does."""

_DIVERGED = re.compile(r"TrainingDivergedError: (?P<text>.*)")
_DAMAGED = re.compile(rf"{DamagedCheckpointError.__name__}: (?P<text>.*)")
_OWN = re.compile(rf"{TrialOutOfMemoryError.__name__}: (?P<text>out of memory .*)")


class StudyHaltedError(OSError):
    """What all trials need is missing, such as room on the disk; later the study can go on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A failure, as the ledger keeps it."""

    text: str
    """What happened; where memory ran out, with what would fit."""
    retry: bool
    """Whether another try could end otherwise."""
    blame: Literal["trial", "checkpoint", "disk"] = "trial"
    """trial: it, or its process; checkpoint: the one that it should go on from; disk: it is full,
    whatever the trial does."""


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error of this process says that a disk is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def read_failure(text: str, trial: TrialConfig, *, micro_batch_rows: int | None = None) -> Failure:
    """Recognize memory or a disk that ran out, and the like, in what Ray tells of a failed process.

    A trial that could not get memory itself would fail again, and so would one whose loss is no
    number: each epoch depends on the trial alone. One that was killed for the sake of its machine
    may have been unlucky in its neighbours.

    Args:
        text: The process's error, or Ray's words on its end.
        trial: What it was told.
        micro_batch_rows: The study's.
    """
    if own := _OWN.search(text):
        return Failure(text=own["text"].strip(), retry=False)
    if diverged := _DIVERGED.search(text):
        return Failure(text=f"diverged: {diverged['text'].strip()}", retry=False)
    if damaged := _DAMAGED.search(text):
        return Failure(text=damaged["text"].strip(), retry=True, blame="checkpoint")
    if any(sign in text for sign in DISK_FULL):
        return Failure(text=text.strip().splitlines()[-1], retry=True, blame="disk")
    smaller = suggest_smaller(trial, micro_batch_rows=micro_batch_rows)
    advice = f"{trial.batch_name} is {trial.batch}; {smaller}"
    if any(sign in text for sign in MEMORY_MONITOR):
        reason = "its process was killed by Ray, because its machine ran low on memory"
        return Failure(text=f"{reason}: {advice}", retry=True)
    reason = ""
    if KILLED.search(text):
        reason = "its process was killed, as the system does where memory runs out"
    elif any(sign in text for sign in ENDED):
        reason = "its process ended without a word, perhaps because memory ran out"
    if reason:
        # Last, because that is the line that the terminal shows.
        return Failure(text=f"{text.rstrip()}\n{reason}: {advice}", retry=True)
    return Failure(text=text, retry=True)
