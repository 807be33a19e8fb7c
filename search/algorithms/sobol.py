"""Points that fill the space evenly, by a scrambled Sobol sequence."""

import itertools
import random
from collections.abc import Iterator

from search.algorithms.distinct import DistinctPoints, derive_seed
from search.algorithms.interface import Outcome, Point
from search.algorithms.unit_cube import to_value
from spaces.space import Space

_BLOCK = 64
"""Points that are computed at a time."""


class SobolSearch:
    """A Sobol sequence with Owen's scrambling, without points that train the same model twice.

    Every parameter has a coordinate of its own, which is left unused where the parameter is not
    active, so that whatever is active is spread evenly.

    Sobol' 1967, "On the distribution of points in a cube and the approximate evaluation of
    integrals"; Owen 1998, "Scrambling Sobol' and Niederreiter-Xing Points",
    https://doi.org/10.1006/jcom.1998.0487; for hyperparameters Bousquet et al. 2017, "Critical
    Hyper-Parameters: No Random, No Cry", https://arxiv.org/abs/1706.03200
    """

    def __init__(self, space: Space, *, seed: int) -> None:
        self._points = _distinct(space, seed)
        self._next = 0

    def ask(self, number: int) -> Point | None:
        """Return point ``number`` of the sequence."""
        point = next(itertools.islice(self._points, number - self._next, None), None)
        self._next = number + 1
        return point

    def adopt(self, number: int, point: Point) -> None:
        """Do nothing: a point follows from its number."""

    def tell_report(self, number: int, epoch: int, score: float) -> None:
        """Do nothing: the sequence doesn't learn."""

    def tell(self, number: int, outcome: Outcome, score: float | None) -> None:
        """Do nothing: the sequence doesn't learn."""


def _distinct(space: Space, seed: int) -> Iterator[Point]:
    distinct, sequence = DistinctPoints(space), _sequence(space, seed)
    for number in itertools.count():
        rng = random.Random(derive_seed(seed, number))
        point = distinct.find(lambda: next(sequence), rng)
        if point is None:
            return
        yield point


def _sequence(space: Space, seed: int) -> Iterator[Point]:
    from scipy.stats import qmc

    names = list(space.parameters)
    engine = qmc.Sobol(len(names), scramble=True, rng=derive_seed(seed, "sobol"))
    while True:
        for row in engine.random(_BLOCK).tolist():
            coordinates = dict(zip(names, row, strict=True))
            yield space.walk(lambda name, parameter: to_value(parameter, coordinates[name]))  # noqa: B023 - called at once
