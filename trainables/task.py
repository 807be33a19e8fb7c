"""Click-through rate, placement, recommendation: columns, heads, losses, metrics."""

from dataclasses import dataclass
from typing import Literal

TaskKind = Literal["ctr", "recommendation"]
"""What is predicted. ``ctr``: the probability that an impression is clicked. ``recommendation``:
the order of the products that a query or a user may be shown."""

TASK_METRICS: dict[TaskKind, tuple[str, ...]] = {
    "ctr": ("roc_auc", "pr_auc", "log_loss", "normalized_entropy", "ece", "gauc"),
    "recommendation": (
        "ndcg@10",
        "mrr",
        "recall@10",
        "map",
        "gauc",
        "roc_auc",
        "pr_auc",
        "log_loss",
        "normalized_entropy",
        "ece",
    ),
}
"""The metrics that a study of each task may optimize, where its rows define them; see METRICS."""

REPORTED_METRICS: dict[TaskKind, tuple[str, ...]] = {
    "ctr": ("roc_auc",),
    "recommendation": ("ndcg@10", "mrr", "recall@10", "map", "roc_auc"),
}
"""What the test split is scored by beside the study's own metric."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskConfig:
    """What is predicted from a row."""

    kind: TaskKind = "ctr"
    """The prediction task."""
