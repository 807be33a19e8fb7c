"""asha: of the trials that reach a rung, the best fraction goes on."""

import bisect
import math
from collections.abc import Sequence

from search.trial_record import Decision


class SuccessiveHalving:
    """ASHA (Li et al. 2020, https://arxiv.org/abs/1810.05934), the variant that stops trials.

    Rungs stand at ``grace_epochs * reduction_factor ** k`` epochs. A trial that reaches a rung goes
    on if it is among the best ``1 / reduction_factor`` of those that reached it before, itself
    included; ties go on. The first ones at a rung go on, since nothing stands against them.
    """

    def __init__(self, *, grace_epochs: int, reduction_factor: int, max_epochs: int) -> None:
        self._reduction_factor = reduction_factor
        # By epoch, sorted: a thousand trials at a rung cost no more than a few.
        self._rungs: dict[int, list[float]] = {
            epochs: [] for epochs in rung_epochs(grace_epochs, reduction_factor, max_epochs)
        }

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs after which trials may be stopped."""
        return tuple(self._rungs)

    def report(
        self, number: int, epoch: int, score: float, costs: Sequence[float] = ()
    ) -> Decision:
        """Note a score; decide if the trial stands at a rung."""
        rung = self._rungs.get(epoch)
        if rung is None:
            return "continue"
        score = score if math.isfinite(score) else -math.inf
        bisect.insort(rung, score)
        if len(rung) < self._reduction_factor:
            return "continue"
        num_kept = len(rung) // self._reduction_factor
        return "continue" if score >= rung[-num_kept] else "stop"


def rung_epochs(grace_epochs: int, reduction_factor: int, max_epochs: int) -> list[int]:
    """Return after how many epochs the rungs of successive halving stand, rising."""
    rungs = []
    epochs = grace_epochs
    # At the last epoch there is nothing left to stop.
    while epochs < max_epochs:
        rungs.append(epochs)
        epochs *= reduction_factor
    return rungs
