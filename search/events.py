"""What happens in a study, for whoever shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from search.trial_record import TrialRecord

EventKind = Literal[
    "started",
    "reported",
    "paused",
    "completed",
    "stopped",
    "retried",
    "failed",
    "note",
    "warning",
]
"""What happened: to a trial, or to the study (note), or what is odd about it (warning). A trial
that paused waits for the others of its population."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyEvent:
    """One thing that happened in a study; the ledger holds it already."""

    kind: EventKind
    """What happened."""
    trial: TrialRecord | None = None
    """The trial as it is now; None for a note."""
    message: str = ""
    """Why a trial failed, what the study does, or what is odd about it."""


OnEvent = Callable[[StudyEvent], None]
"""Called for each event, in the study's own thread; it should return soon."""


def ignore_event(event: StudyEvent) -> None:
    """Do nothing."""
