"""The parts of a space that are searched in turn, one for each combination of its grids."""

from collections.abc import Iterator
from dataclasses import dataclass

from search.algorithms.distinct import DistinctPoints, effective_key
from search.algorithms.interface import Point
from spaces.grids import Combination, grid_combinations, part_of
from spaces.space import Space


@dataclass(frozen=True, slots=True)
class GridPart:
    """What one combination leaves to be drawn."""

    place: int
    """Its place among the parts."""
    combination: Combination
    """Values of the grids; none where the part is the whole space."""
    space: Space
    """The space with these values as constants."""
    distinct: DistinctPoints
    """Its points that were not tried yet."""


class GridParts:
    """The parts of a space, of which trial ``number`` has the one at ``number`` modulo their count.

    So any run of as many trials as there are parts has one in each, whatever trial it begins with.
    A part of which no point is left gives its turn to the next. A space without grids is its only
    part.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._combinations = grid_combinations(space)
        self._parts: dict[int, GridPart] = {}
        self._seen: set[str] = set()

    def in_turn(self, number: int) -> Iterator[GridPart]:
        """Yield all parts, that of a trial first and then those that stand in for it, in order."""
        count = len(self._combinations)
        for index in range(count):
            yield self._part((number + index) % count)

    def add(self, point: Point) -> bool:
        """Note a point of any part; return whether it is new."""
        key = effective_key(point)
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new

    def _part(self, place: int) -> GridPart:
        if place not in self._parts:
            combination = self._combinations[place]
            space = part_of(self._space, combination)
            distinct = DistinctPoints(space, seen=self._seen)
            self._parts[place] = GridPart(place, combination, space, distinct)
        return self._parts[place]
