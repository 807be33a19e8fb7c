"""pbt: a population whose worst make room for copies of the best with other hyperparameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.search_config import SMALLEST_POPULATION
from search.trial_record import Decision


class PopulationBased:
    """Population based training (Jaderberg et al. 2017, https://arxiv.org/abs/1711.09846).

    Synchronous: at a rung members wait until all have come there, so that a population may have
    more members than there are places to train them. No report stops a trial: who goes on is
    decided for the whole generation (``search/generations.py``), by :func:`choose_exploits`.
    """

    def __init__(self, *, perturbation_epochs: int, max_epochs: int) -> None:
        self._rungs = tuple(range(perturbation_epochs, max_epochs, perturbation_epochs))

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs after which members wait for each other; at the last they have ended."""
        return self._rungs

    def report(
        self, number: int, epoch: int, score: float, costs: Sequence[float] = ()
    ) -> Decision:
        """Return continue."""
        return "continue"


@dataclass(frozen=True, kw_only=True, slots=True)
class Exploit:
    """A member whose place another one's copy takes."""

    loser: int
    """The member."""
    donors: tuple[int, ...]
    """The members that may be copied: those of the best that are better than it."""


def choose_exploits(scores: Mapping[int, float], fraction: float) -> tuple[Exploit, ...]:
    """Choose who is replaced, and by copies of whom: truncation selection.

    Args:
        scores: Of the members that are alive, by number, finite; higher is better.
        fraction: Share of them that is replaced, and share of the best; at least one each with four
            members or more.

    Returns:
        The replaced, the worst one last. A member that is as good as the best stays.
    """
    ranked = sorted(scores, key=lambda number: (-scores[number], number))
    count = max(int(len(ranked) * fraction), int(len(ranked) >= SMALLEST_POPULATION))
    exploits = []
    for loser in ranked[len(ranked) - count :]:
        better = tuple(n for n in ranked[:count] if scores[n] > scores[loser])
        if better:
            exploits.append(Exploit(loser=loser, donors=better))
    return tuple(exploits)
