"""What the steps of a trial minimize: a loss of the model's output for some rows, and its scale."""

from dataclasses import dataclass

import numpy as np
import torch

from spaces.trial_config import COMPARING_LOSSES, Loss
from trainables.batch_source import BatchSource
from trainables.engine import Engine
from trainables.losses import RANKING_LOSSES, binomial_loss
from trainables.trial_setup import Worker


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """A loss, and what a step divides it by."""

    loss: Loss
    """The loss. One that compares rows takes a single worker and whole batches."""
    mean_impressions: float
    """A row's usual impressions, which scale the pointwise loss."""

    @property
    def compares(self) -> bool:
        """Return whether the loss compares the rows of a group."""
        return self.loss in COMPARING_LOSSES

    def check(self, worker: Worker, micro_batch_rows: int | None) -> None:
        """Refuse a division of batches that would tear groups.

        Raises:
            ValueError: saying what to change.
        """
        if self.compares and (worker.world_size > 1 or micro_batch_rows is not None):
            raise ValueError(
                f"loss is {self.loss}, which compares the rows of a group, but "
                f"{worker.world_size} workers with deepspeed.micro_batch_rows {micro_batch_rows} "
                "would tear groups; use one worker and no parts, or loss: pointwise"
            )

    def summed(
        self, engine: Engine, source: BatchSource, indices: np.ndarray, *, counts: bool = True
    ) -> tuple[torch.Tensor, float]:
        """Run the model over rows.

        Args:
            engine: Holds the model.
            source: The rows.
            indices: Numbers of those that are taken.
            counts: False: the rows count nothing.

        Returns:
            Their summed loss, in nats, and what it is a sum over: impressions, or groups.
        """
        rows = source.rows
        impressions = rows.impressions[indices] * (1 if counts else 0)
        clicks = np.minimum(rows.clicks[indices], impressions)
        logits = engine.forward(**source.batch(indices))
        if not self.compares:
            loss = binomial_loss(
                logits,
                clicks=torch.from_numpy(clicks).to(engine.device),
                impressions=torch.from_numpy(impressions).to(engine.device),
            )
            return loss, float(impressions.sum())
        rates = np.divide(clicks, impressions, out=np.zeros_like(clicks), where=impressions > 0)
        _, groups = np.unique(rows.groups[indices], return_inverse=True)
        loss, num_groups = RANKING_LOSSES[self.loss](
            logits,
            rates=torch.from_numpy(rates).to(engine.device),
            groups=torch.from_numpy(groups).to(engine.device),
        )
        return loss, float(num_groups)

    def scale(self, num_rows: float, count: float) -> float:
        """Return what a step multiplies a summed loss by.

        Args:
            num_rows: Rows of the worker's share of the batch.
            count: What the sum is over, from :meth:`summed`.
        """
        if self.compares:
            return 1 / max(count, 1)
        return 1 / (num_rows * self.mean_impressions)
