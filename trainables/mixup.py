"""Mix the pooled rows of a batch, and their losses (Zhang et al. 2018, Guo et al. 2019).

Zhang et al. mix inputs (https://arxiv.org/abs/1710.09412), Guo et al. the vectors of sentences
(https://arxiv.org/abs/1905.08941), which is what is done here.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from spaces.trial_config import TrialConfig

STREAM = 2
"""Tells mixing's random numbers from the others of a trial and an epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixing:
    """How the rows of one forward pass are mixed."""

    partners: np.ndarray
    """int64 (b,): which row of the pass is mixed into each, a permutation."""
    own_share: float
    """A row's share in its mixture, in [0, 1]; the rest is its partner's."""

    def counts(self, values: np.ndarray) -> np.ndarray:
        """Mix clicks or impressions, (b,).

        The binomial loss is linear in both, so that the loss of mixed counts is the mixed loss.
        """
        mixed: np.ndarray = self.own_share * values + (1 - self.own_share) * values[self.partners]
        return mixed


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixup:
    """How the rows of an epoch are mixed; it follows from seed, epoch and step."""

    alpha: float
    """Both parameters of the Beta distribution of shares; small ones leave most rows nearly as they
    are."""
    seed: int
    """The trial's."""
    epoch: int
    """Number of the epoch."""

    @classmethod
    def of(cls, trial: TrialConfig, epoch: int) -> Self | None:
        """Return a trial's mixing in an epoch; None if it has none."""
        if trial.mixup_alpha == 0:
            return None
        return cls(alpha=trial.mixup_alpha, seed=trial.seed, epoch=epoch)

    def draw(self, num_rows: int, *, step: int, rank: int, part: int) -> Mixing:
        """Decide how the rows of a forward pass are mixed.

        Args:
            num_rows: Rows of the pass.
            step: Number of the batch in the epoch; all its rows have one share, on all workers.
            rank: Number of the worker: a row's partner is one of the same pass.
            part: Number of the pass among those of the worker's share of the batch.
        """
        batch = [self.seed, self.epoch, STREAM, step]
        own_share = float(np.random.default_rng(batch).beta(self.alpha, self.alpha))
        rng = np.random.default_rng([*batch, rank, part])
        return Mixing(partners=rng.permutation(num_rows), own_share=own_share)
