"""A parameter's values as coordinates from 0 to 1, and back.

Even coordinates give what the parameter draws where nothing else is known: a range its numbers, a
logarithmic one its decades, a list its values, each equally often.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spaces.conditions import Value

MOST_NAMED = 12
"""Values that a message lists one by one."""


def _whole(value: Value) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class _Between:
    """Real numbers from low to high."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"numbers from {self.low} to {self.high}"

    def find(self, value: Value) -> float | None:
        """Return a value as the scale has it; None if it isn't on the scale."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value) if self.low <= value <= self.high else None


@dataclass(frozen=True, slots=True)
class Line(_Between):
    """Real numbers from low to high."""

    def value_at(self, coordinate: float) -> float:
        """Return the number at a coordinate."""
        # Not low + coordinate * (high - low), which overflows where the bounds are far apart.
        number = (1 - coordinate) * self.low + coordinate * self.high
        return min(max(number, self.low), self.high)

    def coordinate_of(self, value: float) -> float:
        """Return the coordinate of a number."""
        # Halves, because a difference of bounds may overflow.
        return (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)


@dataclass(frozen=True, slots=True)
class LogLine(_Between):
    """Positive real numbers from low to high, by their logarithm."""

    def value_at(self, coordinate: float) -> float:
        """Return the number at a coordinate."""
        low, high = math.log(self.low), math.log(self.high)
        # exp(log(x)) may leave the interval by one unit in the last place.
        return min(max(math.exp(low + coordinate * (high - low)), self.low), self.high)

    def coordinate_of(self, value: float) -> float:
        """Return the coordinate of a number."""
        low, high = math.log(self.low), math.log(self.high)
        return (math.log(value) / 2 - low / 2) / (high / 2 - low / 2)


@dataclass(frozen=True, slots=True)
class Parts:
    """Listed values, or whole numbers in steps, each with an equal part of the interval."""

    choices: Sequence[Any]

    def __str__(self) -> str:
        if len(self.choices) <= MOST_NAMED:
            return ", ".join(map(str, self.choices))
        return f"{self.choices[0]}, {self.choices[1]}, ... {self.choices[-1]}"

    def place_of(self, value: Value) -> int | None:
        """Return the place of the value that equals a given one; None if there is none."""
        if isinstance(self.choices, range):
            # Asked for a number that is no int, a range would go through all that it holds.
            whole = _whole(value)
            if whole is None or whole not in self.choices:
                return None
            return self.choices.index(whole)
        is_bool = isinstance(value, bool)
        alike = (isinstance(choice, bool) == is_bool and choice == value for choice in self.choices)
        return next((place for place, is_it in enumerate(alike) if is_it), None)

    def find(self, value: Value) -> Any:  # noqa: ANN401 - whatever is listed
        """Return a value as the scale has it; None if it isn't on the scale."""
        place = self.place_of(value)
        return None if place is None else self.choices[place]

    def value_at(self, coordinate: float) -> Any:  # noqa: ANN401 - whatever is listed
        """Return the value in whose part a coordinate lies."""
        return self.choices[min(int(coordinate * len(self.choices)), len(self.choices) - 1)]

    def coordinate_of(self, value: Value) -> float:
        """Return the middle of a value's part."""
        place = self.place_of(value)
        assert place is not None
        return (place + 0.5) / len(self.choices)


@dataclass(frozen=True, slots=True)
class LogWhole:
    """Whole numbers from low to high, each with its part of the logarithm."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"whole numbers from {self.low} to {self.high}"

    def find(self, value: Value) -> int | None:
        """Return a value as the scale has it; None if it isn't on the scale."""
        whole = _whole(value)
        return whole if whole is not None and self.low <= whole <= self.high else None

    def value_at(self, coordinate: float) -> int:
        """Return the number in whose part a coordinate lies."""
        low, high = self._ends()
        return min(max(round(math.exp(low + coordinate * (high - low))), self.low), self.high)

    def coordinate_of(self, value: float) -> float:
        """Return the coordinate of a number."""
        low, high = self._ends()
        return (math.log(value) - low) / (high - low)

    def _ends(self) -> tuple[float, float]:
        # Half a step beyond the bounds, so that the outermost values get their whole share.
        return math.log(self.low - 0.5), math.log(self.high + 0.5)


Scale = Line | LogLine | Parts | LogWhole
"""Any of these."""
