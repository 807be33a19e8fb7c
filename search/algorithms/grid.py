"""Every point of a finite space, in order."""

import itertools
from collections.abc import Iterator

from search.algorithms.distinct import effective_key
from search.algorithms.interface import Outcome, Point
from spaces.space import Space


class GridSearch:
    """Every point in order, the last parameter fastest; points that train the same model once."""

    def __init__(self, space: Space) -> None:
        self._points = _distinct(space)
        self._next = 0

    def ask(self, number: int) -> Point | None:
        """Return point ``number`` of the grid."""
        point = next(itertools.islice(self._points, number - self._next, None), None)
        self._next = number + 1
        return point

    def adopt(self, number: int, point: Point) -> None:
        """Do nothing: a point follows from its number."""

    def tell_report(self, number: int, epoch: int, score: float) -> None:
        """Do nothing: a grid doesn't learn."""

    def tell(self, number: int, outcome: Outcome, score: float | None) -> None:
        """Do nothing: a grid doesn't learn."""


def _distinct(space: Space) -> Iterator[Point]:
    seen: set[str] = set()
    for point in space.enumerate():
        key = effective_key(point)
        if key not in seen:
            seen.add(key)
            yield point
