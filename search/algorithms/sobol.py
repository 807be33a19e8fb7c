"""Points that fill the space evenly, by a scrambled Sobol sequence."""

import functools
import random
from collections.abc import Iterator, Sequence

from search.algorithms.distinct import derive_seed, effective_key
from search.algorithms.grid_parts import GridPart, GridParts
from search.algorithms.interface import Outcome, Point
from spaces.space import Space

_BLOCK = 64
"""Points that are computed at a time."""


class SobolSearch:
    """A Sobol sequence with Owen's scrambling, without points that train the same model twice.

    Every parameter has a coordinate of its own, which is left unused where the parameter is not
    active, so that whatever is active is spread evenly. Each combination of grids has a sequence of
    its own, whose points are spread evenly by themselves. A prior bends its coordinate by the
    inverse of its distribution, so that draws follow it as evenly.

    Sobol' 1967, "On the distribution of points in a cube and the approximate evaluation of
    integrals"; Owen 1998, "Scrambling Sobol' and Niederreiter-Xing Points",
    https://doi.org/10.1006/jcom.1998.0487; for hyperparameters Bousquet et al. 2017, "Critical
    Hyper-Parameters: No Random, No Cry", https://arxiv.org/abs/1706.03200
    """

    def __init__(self, space: Space, *, seed: int) -> None:
        self._parts = GridParts(space)
        self._sequences: dict[int, Iterator[Point]] = {}
        self._seed = seed
        self._next = 0
        self._adopted: dict[int, Point] = {}
        self._put_back: dict[int, Point] = {}

    def ask(self, number: int) -> Point | None:
        """Return the next point of the sequence of the combination whose turn it is."""
        while self._next < number:
            self._pass()
        taken = self._take()
        return None if taken is None else taken[1]

    def _take(self) -> tuple[int, Point] | None:
        """Return the next point and the place of the part that it is of."""
        number = self._next
        self._next += 1
        rng = random.Random(derive_seed(self._seed, number))
        for part in self._parts.in_turn(number):
            if part.place in self._put_back:
                return part.place, self._put_back.pop(part.place)
            draw = functools.partial(next, self._sequence_of(part))
            if (point := part.distinct.find(draw, rng)) is not None:
                return part.place, point
        return None

    def _sequence_of(self, part: GridPart) -> Iterator[Point]:
        # Of one sequence for all parts, every second point lies in one half of the first
        # coordinate: two combinations in turn would each see only theirs.
        if part.place not in self._sequences:
            seed = derive_seed(self._seed, "sobol", *part.combination.items())
            self._sequences[part.place] = _sequence(part.space, seed)
        return self._sequences[part.place]

    def _pass(self) -> None:
        """Go on to where the sequence was when an adopted point was asked for."""
        adopted = self._adopted.pop(self._next, None)
        taken = self._take()
        if taken is None or adopted is None:
            return
        place, point = taken
        key = effective_key(adopted)
        if effective_key(point) == key:
            return
        # No point of the sequence, but one that the study was told to start from.
        self._put_back[place] = point
        if not self._parts.add(adopted):
            waiting = self._put_back.items()
            self._put_back = {place: p for place, p in waiting if effective_key(p) != key}

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
    engine = qmc.Sobol(len(names), scramble=True, rng=seed)
    while True:
        for row in engine.random(_BLOCK).tolist():
            coordinates = dict(zip(names, row, strict=True))
            yield space.walk(lambda name, parameter: parameter.quantile(coordinates[name]))  # noqa: B023 - called at once
