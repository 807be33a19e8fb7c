"""Why a trial's process failed, and whether another try could end otherwise."""

import re
from dataclasses import dataclass

from spaces.trial_config import TrialConfig
from trainables.out_of_memory import TrialOutOfMemoryError, suggest_smaller

MEMORY_MONITOR = ("running low on memory", "address the out of memory issue")
"""What Ray 2.60 says, first and last in a page of figures, when its memory monitor has killed."""

ENDED = ("killed by the OOM killer", "connection error code 2")
"""What it says of any process that ended without a word, the system's killer being one cause."""

KILLED = re.compile(r"\bSIGKILL\b|(?i:signal|exit code) -?9\b")
"""What shows that a process was killed, which few but the system's killer do."""

_OWN = re.compile(rf"{TrialOutOfMemoryError.__name__}: (?P<text>out of memory .*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A failure, as the ledger keeps it."""

    text: str
    """What happened; where memory ran out, with what would fit."""
    retry: bool
    """Whether another try could end otherwise."""


def read_failure(text: str, trial: TrialConfig, *, micro_batch_rows: int | None = None) -> Failure:
    """Recognize memory that ran out in what Ray tells of a failed process.

    A trial that could not get memory itself would fail again. One that was killed for the sake of
    its machine may have been unlucky in its neighbours.

    Args:
        text: The process's error, or Ray's words on its end.
        trial: What it was told.
        micro_batch_rows: The study's.
    """
    if own := _OWN.search(text):
        return Failure(text=own["text"].strip(), retry=False)
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
