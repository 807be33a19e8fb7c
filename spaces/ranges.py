"""Parameters that are numbers between bounds: Uniform, LogUniform, IntRange, LogIntRange."""

import math
import random
import sys
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any

from spaces.conditions import When, when_to_dict
from spaces.priors import Prior, normal_quantile, prior_to_dict
from spaces.scales import Line, LogLine, LogWhole, Parts

LARGEST_INT = 10**18
"""Largest bound of a whole number: beyond 64 bits its values can't be counted or stored."""

MOST_STEPS = 10_000
"""Steps of a real number, whose values are listed."""


def _check_number(kind: str, number: object) -> None:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError(f"{kind} needs numbers as bounds, got {number!r}; write 1.0e-5 for 1e-5")
    # A comparison, because math.isfinite overflows on a huge int.
    if not -sys.float_info.max <= number <= sys.float_info.max:
        raise ValueError(f"{kind} needs finite bounds, got {number!r}")


def _check_bounds(kind: str, low: float, high: float) -> None:
    _check_number(kind, low)
    _check_number(kind, high)
    if low >= high:
        raise ValueError(
            f"{kind} needs low < high, got [{low}, {high}]; write a single value for a constant"
        )


def _check_whole(kind: str, **numbers: int) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int):
            raise ValueError(f"{kind} needs a whole number as {name}, got {number!r}")


def _check_size(kind: str, low: int, high: int) -> None:
    if max(abs(low), abs(high)) > LARGEST_INT:
        raise ValueError(f"{kind} needs bounds of at most {LARGEST_INT:g}, got [{low}, {high}]")


def _draw_log(rng: random.Random, low: float, high: float) -> float:
    draw = math.exp(rng.uniform(math.log(low), math.log(high)))
    # exp(log(x)) may leave the interval by one unit in the last place.
    return min(max(draw, low), high)


@dataclass(frozen=True, kw_only=True, slots=True)
class Uniform:
    """A real number between the bounds, or one of the steps between them."""

    low: float
    """Smallest value, inclusive."""
    high: float
    """Largest value, inclusive; the last step may end below it."""
    step: float | None = None
    """Distance between neighbouring values; None: every number between the bounds."""
    when: When = field(default_factory=dict)
    """Parents and the values of theirs that make this parameter active; empty means always."""
    prior: Prior | None = None
    """Where draws gather; None: nowhere."""

    def __post_init__(self) -> None:
        _check_bounds("uniform", self.low, self.high)
        if self.step is not None:
            self._check_step(self.step)
        if self.prior is not None:
            self.prior.check(self.scale)

    def _check_step(self, step: float) -> None:
        if isinstance(step, bool) or not isinstance(step, int | float):
            raise ValueError(f"uniform needs a number as step, got {step!r}")
        if not step > 0 or _decimal(step) > _decimal(self.high) - _decimal(self.low):
            raise ValueError(
                f"uniform needs a step above 0 that fits into [{self.low}, {self.high}], got {step}"
            )
        if (self.high - self.low) / step > MOST_STEPS:
            raise ValueError(
                f"uniform takes up to {MOST_STEPS:,} steps, but {step} is too small for "
                f"[{self.low}, {self.high}]; raise it, or leave it out for every number"
            )
        steps = _steps(self.low, self.high, step)
        if len(set(steps)) < len(steps):
            raise ValueError(
                f"uniform's step {step} is finer than numbers of the size of {self.high} are"
            )

    @property
    def choices(self) -> tuple[float, ...] | None:
        """Every value that the parameter can take, in order; None without a step."""
        return None if self.step is None else _steps(self.low, self.high, self.step)

    def extremes(self) -> tuple[float, float]:
        """Return the smallest and largest value, for checking what a trial accepts."""
        choices = self.choices
        return (choices[0], choices[-1]) if choices else (float(self.low), float(self.high))

    @property
    def scale(self) -> Line | Parts:
        """Coordinates of the values."""
        return Line(*self.extremes()) if self.choices is None else Parts(self.choices)

    def sample(self, rng: random.Random) -> float:
        """Draw one value."""
        if self.prior is not None:
            return self.quantile(rng.random())
        choices = self.choices
        return rng.choice(choices) if choices else rng.uniform(self.low, self.high)

    def quantile(self, share: float) -> float:
        """Return the value below which a share of the draws lies, from 0 to 1."""
        value: float = self.scale.value_at(normal_quantile(share, self.prior, self.scale))
        return value

    def nearest(self, value: float) -> float:
        """Return the step that is nearest to a number; without steps the number itself."""
        if self.step is None:
            return value
        steps = _steps(self.low, self.high, self.step)
        index = round((value - self.low) / self.step)
        return steps[min(max(index, 0), len(steps) - 1)]

    def to_dict(self) -> dict[str, Any]:
        """Return the parameter as a study file writes it."""
        step = {} if self.step is None else {"step": self.step}
        return {
            "uniform": [self.low, self.high],
            **step,
            **prior_to_dict(self.prior),
            **when_to_dict(self.when),
        }


def _decimal(number: float) -> Decimal:
    """Return a number as it is written: 3 * 0.05 is 0.15000000000000002, which no file means."""
    return Decimal(str(number))


@lru_cache(maxsize=64)
def _steps(low: float, high: float, step: float) -> tuple[float, ...]:
    first, last, width = map(_decimal, (low, high, step))
    return tuple(float(first + index * width) for index in range(int((last - first) // width) + 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class LogUniform:
    """A positive real number whose logarithm is uniform: every decade equally likely."""

    low: float
    """Smallest value, inclusive, above 0."""
    high: float
    """Largest value, inclusive."""
    when: When = field(default_factory=dict)
    """Parents and the values of theirs that make this parameter active; empty means always."""
    prior: Prior | None = None
    """Where draws gather; None: nowhere."""

    def __post_init__(self) -> None:
        _check_bounds("log_uniform", self.low, self.high)
        if self.low <= 0:
            raise ValueError(f"log_uniform needs low > 0, got {self.low}; use uniform to include 0")
        if self.prior is not None:
            self.prior.check(self.scale)

    @property
    def choices(self) -> None:
        """A continuous parameter can't be enumerated."""
        return

    def extremes(self) -> tuple[float, float]:
        """Return the bounds, for checking them against what a trial accepts."""
        return float(self.low), float(self.high)

    @property
    def scale(self) -> LogLine:
        """Coordinates of the values."""
        return LogLine(*self.extremes())

    def sample(self, rng: random.Random) -> float:
        """Draw one value."""
        if self.prior is not None:
            return self.quantile(rng.random())
        return _draw_log(rng, self.low, self.high)

    def quantile(self, share: float) -> float:
        """Return the value below which a share of the draws lies, from 0 to 1."""
        return self.scale.value_at(normal_quantile(share, self.prior, self.scale))

    def to_dict(self) -> dict[str, Any]:
        """Return the parameter as a study file writes it."""
        return {
            "log_uniform": [self.low, self.high],
            **prior_to_dict(self.prior),
            **when_to_dict(self.when),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class IntRange:
    """A whole number from low to high, in steps."""

    low: int
    """Smallest value, inclusive."""
    high: int
    """Largest value, inclusive; the last step may end below it."""
    step: int = 1
    """Distance between neighbouring values."""
    when: When = field(default_factory=dict)
    """Parents and the values of theirs that make this parameter active; empty means always."""
    prior: Prior | None = None
    """Where draws gather; None: nowhere."""

    def __post_init__(self) -> None:
        _check_whole("int", low=self.low, high=self.high, step=self.step)
        _check_bounds("int", self.low, self.high)
        _check_size("int", self.low, self.high)
        if self.step < 1:
            raise ValueError(f"int needs step >= 1, got {self.step}")
        if self.prior is not None:
            self.prior.check(self.scale)

    @property
    def choices(self) -> range:
        """Every value that the parameter can take, in order."""
        return range(self.low, self.high + 1, self.step)

    def extremes(self) -> tuple[int, int]:
        """Return the smallest and largest reachable value."""
        return self.choices[0], self.choices[-1]

    @property
    def scale(self) -> Parts:
        """Coordinates of the values."""
        return Parts(self.choices)

    def sample(self, rng: random.Random) -> int:
        """Draw one value."""
        if self.prior is not None:
            return self.quantile(rng.random())
        return rng.choice(self.choices)

    def quantile(self, share: float) -> int:
        """Return the value below which a share of the draws lies, from 0 to 1."""
        value: int = self.scale.value_at(normal_quantile(share, self.prior, self.scale))
        return value

    def to_dict(self) -> dict[str, Any]:
        """Return the parameter as a study file writes it."""
        step = {} if self.step == 1 else {"step": self.step}
        return {
            "int": [self.low, self.high],
            **step,
            **prior_to_dict(self.prior),
            **when_to_dict(self.when),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class LogIntRange:
    """A whole number whose logarithm is uniform: 1 to 8 as likely as 8 to 64."""

    low: int
    """Smallest value, inclusive, at least 1."""
    high: int
    """Largest value, inclusive."""
    when: When = field(default_factory=dict)
    """Parents and the values of theirs that make this parameter active; empty means always."""
    prior: Prior | None = None
    """Where draws gather; None: nowhere."""

    def __post_init__(self) -> None:
        _check_whole("log_int", low=self.low, high=self.high)
        _check_bounds("log_int", self.low, self.high)
        _check_size("log_int", self.low, self.high)
        if self.low < 1:
            raise ValueError(f"log_int needs low >= 1, got {self.low}; use int to include 0")
        if self.prior is not None:
            self.prior.check(self.scale)

    @property
    def choices(self) -> range:
        """Every value that the parameter can take, in order."""
        return range(self.low, self.high + 1)

    def extremes(self) -> tuple[int, int]:
        """Return the bounds."""
        return self.low, self.high

    @property
    def scale(self) -> LogWhole:
        """Coordinates of the values."""
        return LogWhole(self.low, self.high)

    def sample(self, rng: random.Random) -> int:
        """Draw one value."""
        if self.prior is not None:
            return self.quantile(rng.random())
        # Half a step beyond the bounds, so that the outermost values get their whole share.
        draw = round(_draw_log(rng, self.low - 0.5, self.high + 0.5))
        return min(max(draw, self.low), self.high)

    def quantile(self, share: float) -> int:
        """Return the value below which a share of the draws lies, from 0 to 1."""
        return self.scale.value_at(normal_quantile(share, self.prior, self.scale))

    def to_dict(self) -> dict[str, Any]:
        """Return the parameter as a study file writes it."""
        return {
            "log_int": [self.low, self.high],
            **prior_to_dict(self.prior),
            **when_to_dict(self.when),
        }
