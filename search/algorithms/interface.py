"""What every algorithm does: propose points, and learn how their trials ended."""

from collections.abc import Sequence
from typing import Literal, Protocol

from spaces.parameters import Value

Point = dict[str, Value]
"""Values of the active parameters, by name."""

Outcome = Literal["running", "completed", "stopped", "failed"]
"""What an algorithm learns of a trial's end; a stopped one counts with what it reported."""


class Algorithm(Protocol):
    """Proposes points. Higher scores are better; the caller turns the sign of a loss.

    Point n depends on the seed, on n, and on what was told before, on nothing else: an algorithm
    that is told the same again after a restart continues as if it had never stopped. The order in
    which trials were told doesn't count, since a restart tells them by number.
    """

    def ask(self, number: int) -> Point | None:
        """Return the point of trial ``number``; None when no new point is left.

        Trials are asked for in the order of their numbers, each once.
        """

    def adopt(self, number: int, point: Point) -> None:
        """Note a point that was asked for before a restart, in place of asking for it."""

    def tell_report(self, number: int, epoch: int, score: float) -> None:
        """Note the score of a running trial after an epoch."""

    def tell(
        self, number: int, outcome: Outcome, score: float | None, costs: Sequence[float] = ()
    ) -> None:
        """Note how a trial ended, with its final score and costs if it has any.

        Costs, which are to be low, are there where a study has several objectives.
        """
