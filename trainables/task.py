"""Click-through rate, placement, recommendation: columns, heads, losses, metrics."""

from dataclasses import dataclass
from typing import Literal

TaskKind = Literal["ctr"]
"""What is predicted. ``ctr``: the probability that an impression is clicked."""

TASK_METRICS: dict[TaskKind, tuple[str, ...]] = {
    "ctr": ("roc_auc", "pr_auc", "log_loss", "normalized_entropy", "ece", "gauc"),
}
"""The metrics that a study of each task may optimize, where its rows define them; see METRICS."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskConfig:
    """What is predicted from a row."""

    kind: TaskKind = "ctr"
    """The prediction task."""
