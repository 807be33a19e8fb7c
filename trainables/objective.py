"""What the steps of a trial minimize: a loss of the model's output for some rows, and its scale."""

from dataclasses import dataclass

import numpy as np
import torch

from spaces.trial_config import WHOLE_BATCH_LOSSES, Loss
from trainables.batch_source import BatchSource
from trainables.engine import Engine
from trainables.losses import RANKING_LOSSES, binomial_loss, in_batch_loss
from trainables.mixup import Mixing
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
        """Return whether the loss compares the rows of a batch."""
        return self.loss in WHOLE_BATCH_LOSSES

    def check(self, worker: Worker, micro_batch_rows: int | None) -> None:
        """Refuse a division of batches that would tear groups.

        Raises:
            ValueError: saying what to change.
        """
        if self.compares and (worker.world_size > 1 or micro_batch_rows is not None):
            raise ValueError(
                f"loss is {self.loss}, which compares the rows of a batch, but "
                f"{worker.world_size} workers with deepspeed.micro_batch_rows {micro_batch_rows} "
                "would tear it; use one worker and no parts, or loss: pointwise"
            )

    def summed(
        self,
        engine: Engine,
        source: BatchSource,
        indices: np.ndarray,
        *,
        counts: bool = True,
        mixing: Mixing | None = None,
    ) -> tuple[torch.Tensor, float]:
        """Run the model over rows.

        Args:
            engine: Holds the model.
            source: The rows.
            indices: Numbers of those that are taken.
            counts: False: the rows count nothing.
            mixing: How the rows are mixed; only for the pointwise loss.

        Returns:
            Their summed loss, in nats, and what it is a sum over: impressions, groups or clicks.
        """
        rows = source.rows
        impressions = rows.impressions[indices] * (1 if counts else 0)
        clicks = np.minimum(rows.clicks[indices], impressions)
        if self.loss == "in_batch":
            return self._in_batch(engine, source, indices, clicks)
        mixed: dict[str, torch.Tensor | float] = {}
        if mixing is not None:
            assert not self.compares, "mixed rows can't be compared"
            clicks, impressions = mixing.counts(clicks), mixing.counts(impressions)
            partners = torch.from_numpy(mixing.partners).to(engine.device)
            mixed = {"partners": partners, "own_share": mixing.own_share}
        logits = engine.forward(**source.batch(indices), **mixed)
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

    def _in_batch(
        self, engine: Engine, source: BatchSource, indices: np.ndarray, clicks: np.ndarray
    ) -> tuple[torch.Tensor, float]:
        """Compare each first segment with all second ones of the batch."""
        groups, tokens = source.rows.groups[indices], source.rows.tokens
        seen: dict[bytes, int] = {}
        items = np.array(
            [
                seen.setdefault(segment.tobytes(), len(seen))
                for segment in tokens.second_segments(indices)
            ]
        )
        # The same item, and what else was clicked in the same group, are no wrong answers.
        excluded = (items[:, None] == items) | ((groups[:, None] == groups) & (clicks[None, :] > 0))
        loss, count = in_batch_loss(
            engine.forward(**source.batch(indices), in_batch=True),
            clicks=torch.from_numpy(clicks).to(engine.device),
            excluded=torch.from_numpy(excluded).to(engine.device),
        )
        return loss, float(count)

    def scale(self, num_rows: float, count: float) -> float:
        """Return what a step multiplies a summed loss by.

        Args:
            num_rows: Rows of the worker's share of the batch.
            count: What the sum is over, from :meth:`summed`.
        """
        if self.compares:
            return 1 / max(count, 1)
        return 1 / (num_rows * self.mean_impressions)
