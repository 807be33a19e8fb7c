"""Independent draws."""

import functools
import random
from collections.abc import Sequence

from search.algorithms.distinct import derive_seed
from search.algorithms.grid_parts import GridParts
from search.algorithms.interface import Outcome, Point
from spaces.space import Space


class RandomSearch:
    """Independent draws, none of which trains the same model twice; grids take turns.

    Bergstra and Bengio 2012, "Random Search for Hyper-Parameter Optimization",
    https://jmlr.org/papers/v13/bergstra12a.html
    """

    def __init__(self, space: Space, *, seed: int) -> None:
        self._seed = seed
        self._parts = GridParts(space)

    def ask(self, number: int) -> Point | None:
        """Draw point ``number``; it differs from those before it."""
        rng = random.Random(derive_seed(self._seed, number))
        found = (
            part.distinct.find(functools.partial(part.space.sample, rng), rng)
            for part in self._parts.in_turn(number)
        )
        return next((point for point in found if point is not None), None)

    def adopt(self, number: int, point: Point) -> None:
        """Note that a point was drawn."""
        self._parts.add(point)

    def tell_report(self, number: int, epoch: int, score: float) -> None:
        """Do nothing: draws are independent."""

    def tell(
        self, number: int, outcome: Outcome, score: float | None, costs: Sequence[float] = ()
    ) -> None:
        """Do nothing: draws are independent."""
