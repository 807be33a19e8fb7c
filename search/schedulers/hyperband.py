"""hyperband: successive halving in several brackets, each with another number of grace epochs."""

from collections.abc import Sequence

from search.schedulers.successive_halving import SuccessiveHalving
from search.trial_record import Decision


class Hyperband:
    """Asynchronous Hyperband: each trial belongs to a bracket, which runs ASHA on its own.

    How many epochs tell a good trial from a bad one isn't known beforehand. Hyperband (Li et al.
    2018, https://jmlr.org/papers/v18/16-558.html, algorithm 1) therefore hedges: bracket k gives
    its trials ``grace_epochs * reduction_factor ** k`` epochs before it stops any, up to a last
    bracket that stops none. Its asynchronous form (Li et al. 2020, section 4,
    https://arxiv.org/abs/1810.05934) keeps the brackets and halves each as its trials report.

    A bracket gets as many trials, in proportion, as in algorithm 1, where all brackets cost about
    the same. Which trial is in which follows from the trial's number alone.
    """

    def __init__(
        self,
        *,
        grace_epochs: int,
        reduction_factor: int,
        max_epochs: int,
        num_brackets: int | None = None,
    ) -> None:
        graces = bracket_graces(grace_epochs, reduction_factor, max_epochs)
        sizes = bracket_sizes(len(graces), reduction_factor)
        self._brackets = [
            SuccessiveHalving(
                grace_epochs=grace, reduction_factor=reduction_factor, max_epochs=max_epochs
            )
            for grace in graces[:num_brackets]
        ]
        self._cycle = spread(sizes[:num_brackets])

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs after which some bracket may stop trials."""
        return tuple(sorted({rung for bracket in self._brackets for rung in bracket.rungs}))

    def bracket(self, number: int) -> int:
        """Return the bracket of a trial; 0 has the fewest grace epochs."""
        return self._cycle[number % len(self._cycle)]

    def report(
        self, number: int, epoch: int, score: float, costs: Sequence[float] = ()
    ) -> Decision:
        """Note a score; the trial's own bracket decides."""
        return self._brackets[self.bracket(number)].report(number, epoch, score)


def bracket_graces(grace_epochs: int, reduction_factor: int, max_epochs: int) -> list[int]:
    """Return the grace epochs of each bracket, fewest first; with the last, nothing is stopped."""
    graces = [grace_epochs]
    while graces[-1] < max_epochs:
        graces.append(min(graces[-1] * reduction_factor, max_epochs))
    return graces


def bracket_sizes(num_brackets: int, reduction_factor: int) -> list[int]:
    """Return how many trials algorithm 1 of Hyperband starts in each bracket, fewest grace first.

    With ``s`` halvings ahead of it a bracket starts ``ceil(num_brackets / (s + 1) *
    reduction_factor ** s)`` trials.
    """
    return [
        -(-num_brackets * reduction_factor**halvings // (halvings + 1))
        for halvings in reversed(range(num_brackets))
    ]


def spread(sizes: Sequence[int]) -> list[int]:
    """Order as many of each index as its size says so that any stretch has about the right mix.

    Each step takes the index that is furthest behind its share (smooth weighted round-robin); a
    short study would otherwise know the first bracket alone.
    """
    total = sum(sizes)
    behind = [0] * len(sizes)
    order = []
    for _ in range(total):
        behind = [debt + size for debt, size in zip(behind, sizes, strict=True)]
        chosen = max(range(len(sizes)), key=behind.__getitem__)
        behind[chosen] -= total
        order.append(chosen)
    return order
