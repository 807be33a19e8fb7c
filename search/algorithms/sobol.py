"""Points that fill the space evenly, by a scrambled Sobol sequence."""

import random
from collections.abc import Iterator, Sequence

from search.algorithms.distinct import DistinctPoints, derive_seed, effective_key
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
        self._sequence = _sequence(space, seed)
        self._distinct = DistinctPoints(space)
        self._seed = seed
        self._next = 0
        self._adopted: dict[int, Point] = {}
        self._put_back: Point | None = None

    def ask(self, number: int) -> Point | None:
        """Return the next point of the sequence."""
        while self._next < number:
            self._pass()
        return self._take()

    def _take(self) -> Point | None:
        number = self._next
        self._next += 1
        if self._put_back is not None:
            point, self._put_back = self._put_back, None
            return point
        rng = random.Random(derive_seed(self._seed, number))
        return self._distinct.find(lambda: next(self._sequence), rng)

    def _pass(self) -> None:
        """Go on to where the sequence was when an adopted point was asked for."""
        adopted = self._adopted.pop(self._next, None)
        point = self._take()
        if point is None or adopted is None or effective_key(point) == effective_key(adopted):
            return
        # No point of the sequence, but one that the study was told to start from.
        self._distinct.add(adopted)
        self._put_back = point

    def adopt(self, number: int, point: Point) -> None:
        """Note which point a trial has, in its turn or as one that the study starts from."""
        self._adopted[number] = point

    def tell_report(self, number: int, epoch: int, score: float) -> None:
        """Do nothing: the sequence doesn't learn."""

    def tell(
        self, number: int, outcome: Outcome, score: float | None, costs: Sequence[float] = ()
    ) -> None:
        """Do nothing: the sequence doesn't learn."""


def _sequence(space: Space, seed: int) -> Iterator[Point]:
    from scipy.stats import qmc

    names = list(space.parameters)
    engine = qmc.Sobol(len(names), scramble=True, rng=derive_seed(seed, "sobol"))
    while True:
        for row in engine.random(_BLOCK).tolist():
            coordinates = dict(zip(names, row, strict=True))
            yield space.walk(lambda name, parameter: to_value(parameter, coordinates[name]))  # noqa: B023 - called at once
