"""asha for several objectives: a rung's better fronts go on."""

import math
from collections.abc import Sequence

import numpy as np

from search.pareto import best_first
from search.schedulers.successive_halving import rung_epochs
from search.trial_record import Decision


class MultiObjectiveHalving:
    """MO-ASHA (Schmucker et al. 2021, https://arxiv.org/abs/2106.12639), as it stops trials.

    As :class:`search.schedulers.successive_halving.SuccessiveHalving`, but a rung is ordered by
    non-domination, and within a front the less crowded go first, so that its ends are kept.
    """

    def __init__(self, *, grace_epochs: int, reduction_factor: int, max_epochs: int) -> None:
        self._reduction_factor = reduction_factor
        self._rungs: dict[int, list[tuple[float, ...]]] = {
            epochs: [] for epochs in rung_epochs(grace_epochs, reduction_factor, max_epochs)
        }

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs after which trials may be stopped."""
        return tuple(self._rungs)

    def report(
        self, number: int, epoch: int, score: float, costs: Sequence[float] = ()
    ) -> Decision:
        """Note a score and costs; decide if the trial stands at a rung."""
        rung = self._rungs.get(epoch)
        if rung is None:
            return "continue"
        # A score that isn't finite is the worst in every respect: it is no cheap success.
        point = (score, *(-cost for cost in costs))
        is_lost = not math.isfinite(score)
        rung.append((-math.inf,) * len(point) if is_lost else point)
        if len(rung) < self._reduction_factor:
            return "continue"
        num_kept = len(rung) // self._reduction_factor
        kept = best_first(np.array(rung))[:num_kept]
        equal = {rung[place] for place in kept}
        return "continue" if rung[-1] in equal else "stop"
