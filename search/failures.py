"""Why a trial's process failed, and whether another try could end otherwise."""

import re
from dataclasses import dataclass

from spaces.trial_config import TrialConfig
from trainables.out_of_memory import TrialOutOfMemoryError, suggest_smaller

MEMORY_MONITOR = ("running low on memory", "address the out of memory issue")
"""What Ray 2.60 says, first and last in a page of figures, when its memory monitor has killed."""

KILLED = ("killed by the OOM killer", "connection error code 2")
"""What it says when a process ended without a word; the system's killer gives none."""

_OWN = re.compile(rf"{TrialOutOfMemoryError.__name__}: (?P<text>out of memory .*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A failure, as the ledger keeps it."""

    text: str
    """What happened; where memory ran out, with what would fit."""
    retry: bool
    """Whether another try could end otherwise."""


def read_failure(text: str, trial: TrialConfig) -> Failure:
    """Recognize memory that ran out in what Ray tells of a failed process.

    A trial that could not get memory itself would fail again. One that was killed for the sake of
    its machine may have been unlucky in its neighbours.

    Args:
        text: The process's error, or Ray's words on its end.
        trial: What it was told.
    """
    if own := _OWN.search(text):
        return Failure(text=own["text"].strip(), retry=False)
    advice = f"batch_size is {trial.batch_size}; {suggest_smaller(trial)}"
    if any(sign in text for sign in MEMORY_MONITOR):
        reason = "its process was killed by Ray, because its machine ran low on memory"
        return Failure(text=f"{reason}: {advice}", retry=True)
    if any(sign in text for sign in KILLED):
        reason = "its process ended without a word, as one does that the system kills for memory"
        # Last, because that is the line that the terminal shows.
        return Failure(text=f"{text.rstrip()}\n{reason}: {advice}", retry=True)
    return Failure(text=text, retry=True)
