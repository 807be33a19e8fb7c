"""Points that train different models, each proposed once."""

import hashlib
import itertools
import random
from collections.abc import Callable, Mapping
from typing import Any

from search.algorithms.interface import Point
from spaces.space import Space
from spaces.trial_config import TrialConfig

ATTEMPTS = 64
"""Draws of one point before a new one is looked for among all that are left."""

LARGEST_ENUMERATION = 100_000
"""Points of a finite space that are looked through for one that wasn't tried."""


def effective_key(point: Mapping[str, Any]) -> str:
    """Identify what a point makes of a trial: equal keys train equal models."""
    return TrialConfig(**point).effective_key()


def derive_seed(*parts: object) -> int:
    """Return a seed of 32 bits that depends on every part, and on nothing of this process."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


class DistinctPoints:
    """Knows the points of a study, and finds one whose model none of them trains.

    What is found keeps to the space's constraints, whoever proposed it.

    What it finds depends on the set of known points, not on the order in which they came.
    """

    def __init__(self, space: Space, *, seen: set[str] | None = None) -> None:
        """Know no point yet.

        Args:
            space: Where points are looked for.
            seen: Keys of models that count as known, shared with others who add to it.
        """
        self._space = space
        self._is_finite = not space.continuous()
        self._seen: set[str] = set() if seen is None else seen
        self._left: dict[str, Point] | None = None

    def add(self, point: Point) -> bool:
        """Note a point; return whether it is new."""
        key = effective_key(point)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def find(self, draw: Callable[[], Point], rng: random.Random) -> Point | None:
        """Add and return a new point.

        Args:
            draw: Proposes a point; called again, up to 64 times, while the point isn't new, or
                breaks a constraint.
            rng: Chooses among all that are left of a finite space where no draw is new.

        Returns:
            The point; None if none is left.
        """
        for _ in range(ATTEMPTS):
            point = draw()
            if self._space.allows(point) and self.add(point):
                return point
        return self._find_left(rng)

    def _find_left(self, rng: random.Random) -> Point | None:
        if self._space.constraints:
            # What proposes may know of none; these points all keep to them.
            points = (self._space.sample(rng) for _ in range(ATTEMPTS))
            if (found := next((point for point in points if self.add(point)), None)) is not None:
                return found
        if not self._is_finite:
            # Only parameters that the trial ignores can still differ, so the rest is exhausted.
            return None
        if self._left is None:
            # Kept, because the last points of a space would each cost a look through all of it.
            self._left = self._enumerate_left()
        self._left = {key: p for key, p in self._left.items() if key not in self._seen}
        if not self._left:
            return None
        index = rng.randrange(len(self._left))
        point = next(itertools.islice(self._left.values(), index, None))
        self.add(point)
        return point

    def _enumerate_left(self) -> dict[str, Point]:
        left: dict[str, Point] = {}
        for point in itertools.islice(self._space.enumerate(), LARGEST_ENUMERATION):
            key = effective_key(point)
            if key not in self._seen:
                left.setdefault(key, point)
        return left
