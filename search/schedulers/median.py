"""median: a trial stops whose best is below the median of what the others averaged."""

import math
from bisect import insort
from collections.abc import Sequence

from search.trial_record import Decision


class MedianStopping:
    """The median stopping rule (Golovin et al. 2017, section 3.2.2, Google Vizier).

    After an epoch a trial is stopped if its best score so far is strictly below the median of the
    running averages, up to the same epoch, of the other trials (https://doi.org/10.1145/3097983.3098043).
    Vizier compares with completed trials; here every trial counts that has reached the epoch,
    because otherwise the trials that run side by side at a study's start would all run to the end.

    The rule has no quota: where scores barely differ it stops few trials.
    """

    def __init__(self, *, grace_epochs: int, min_peers: int, max_epochs: int) -> None:
        self._min_peers = min_peers
        self._scores: dict[int, list[float]] = {}
        # By epoch, sorted: a median then costs nothing.
        self._averages: dict[int, list[float]] = {
            epoch: [] for epoch in range(grace_epochs, max_epochs)
        }

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs after which trials may be stopped."""
        return tuple(self._averages)

    def report(
        self, number: int, epoch: int, score: float, costs: Sequence[float] = ()
    ) -> Decision:
        """Note a score; decide if enough other trials have reached the epoch."""
        scores = self._scores.setdefault(number, [])
        scores.append(score if math.isfinite(score) else -math.inf)
        peers = self._averages.get(epoch)
        if peers is None:
            return "continue"
        is_below = len(peers) >= self._min_peers and max(scores) < _median(peers)
        insort(peers, _mean(scores))
        return "stop" if is_below else "continue"


def _mean(scores: list[float]) -> float:
    # Divided first, so that a sum of large scores can't become infinite; and rounding must not
    # lift a mean above all that it is a mean of, or a trial would lose against its equals.
    return min(sum(score / len(scores) for score in scores), max(scores))


def _median(values: list[float]) -> float:
    """Return the median of sorted values, the mean of the middle two if their number is even."""
    low, high = values[(len(values) - 1) // 2], values[len(values) // 2]
    return low if low == high else low / 2 + high / 2
