"""none: every trial runs to its end."""

from collections.abc import Sequence

from search.trial_record import Decision


class RunToEnd:
    """Every trial runs to its end."""

    @property
    def rungs(self) -> tuple[int, ...]:
        """No epoch: nothing is stopped."""
        return ()

    def report(
        self, number: int, epoch: int, score: float, costs: Sequence[float] = ()
    ) -> Decision:
        """Return continue."""
        return "continue"
