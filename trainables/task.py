"""Click-through rate, placement, recommendation: columns, heads, losses, metrics."""

from dataclasses import dataclass
from typing import Any, Literal

TaskKind = Literal["ctr", "placement", "recommendation"]
"""What is predicted. ``ctr``: the probability that an impression is clicked. ``placement``: that
probability for every placement that a row could have, of which a policy takes the best.
``recommendation``: the order of the products that a query or a user may be shown."""

CLICK_METRICS = ("roc_auc", "pr_auc", "log_loss", "normalized_entropy", "ece", "gauc")
RANKING_METRICS = ("ndcg@10", "mrr", "recall@10", "map")

TASK_METRICS: dict[TaskKind, tuple[str, ...]] = {
    "ctr": CLICK_METRICS,
    "placement": CLICK_METRICS,
    "recommendation": (*RANKING_METRICS, *CLICK_METRICS),
}
"""The metrics that a study of each task may optimize, where its rows define them; see METRICS."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskConfig:
    """What is predicted from a row."""

    kind: TaskKind = "ctr"
    """The prediction task."""
    placement: tuple[str, ...] = ()
    """placement: the categorical columns that say where and how a row was shown, such as ad format
    and position; what a policy chooses."""
    max_placement_share: float | None = None
    """placement: largest share of the rows that one placement may get; None: no limit."""

    def __post_init__(self) -> None:
        share = self.max_placement_share
        if self.kind != "placement" and (self.placement or share is not None):
            raise ValueError(
                "task.placement and task.max_placement_share are of kind: placement, but task.kind "
                f"is {self.kind}; leave them out, or use kind: placement"
            )
        if self.kind == "placement" and not self.placement:
            raise ValueError(
                "task.kind is placement, but task.placement names no column; list the categorical "
                "columns that say where a row was shown, placement: [ad_format, position]"
            )
        if share is not None and not 0 < share <= 1:
            raise ValueError(f"task.max_placement_share must be in (0, 1], got {share}")

    def meaning(self) -> dict[str, Any]:
        """Return what a table's fingerprint covers: how predictions are used is no part of it."""
        return {"kind": self.kind}
