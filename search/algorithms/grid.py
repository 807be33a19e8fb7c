"""Every point of a finite space, in order."""

from collections.abc import Sequence

from search.algorithms.distinct import DistinctPoints
from search.algorithms.interface import Outcome, Point
from spaces.space import Space


class GridSearch:
    """Every point in order, the last parameter fastest; points that train the same model once."""

    def __init__(self, space: Space) -> None:
        self._points = space.enumerate()
        self._distinct = DistinctPoints(space)

    def ask(self, number: int) -> Point | None:
        """Return the first point of the grid that was neither returned nor adopted."""
        return next((point for point in self._points if self._distinct.add(point)), None)

    def adopt(self, number: int, point: Point) -> None:
        """Note that a point was tried, in its turn or as one that the study starts from."""
        self._distinct.add(point)

    def tell_report(self, number: int, epoch: int, score: float) -> None:
        """Do nothing: a grid doesn't learn."""

    def tell(
        self, number: int, outcome: Outcome, score: float | None, costs: Sequence[float] = ()
    ) -> None:
        """Do nothing: a grid doesn't learn."""
