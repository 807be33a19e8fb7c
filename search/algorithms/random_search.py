"""Independent draws."""

import random
from collections.abc import Sequence

from search.algorithms.distinct import DistinctPoints, derive_seed
from search.algorithms.interface import Outcome, Point
from spaces.space import Space


class RandomSearch:
    """Independent draws, none of which trains the same model twice.

    Bergstra and Bengio 2012, "Random Search for Hyper-Parameter Optimization",
    https://jmlr.org/papers/v13/bergstra12a.html
    """

    def __init__(self, space: Space, *, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._distinct = DistinctPoints(space)

    def ask(self, number: int) -> Point | None:
        """Draw point ``number``; it differs from those before it."""
        rng = random.Random(derive_seed(self._seed, number))
        return self._distinct.find(lambda: self._space.sample(rng), rng)

    def adopt(self, number: int, point: Point) -> None:
        """Note that a point was drawn."""
        self._distinct.add(point)

    def tell_report(self, number: int, epoch: int, score: float) -> None:
        """Do nothing: draws are independent."""

    def tell(
        self, number: int, outcome: Outcome, score: float | None, costs: Sequence[float] = ()
    ) -> None:
        """Do nothing: draws are independent."""
