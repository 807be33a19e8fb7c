"""One dimension of a space: LogUniform, Uniform, IntRange, Choice, and its conditions."""

import math
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Value = str | int | float | bool
"""What a parameter can hold: plain, so that every ledger and storage keeps it exactly."""

LARGEST_INT = 10**18
"""Largest bound of an IntRange: beyond 64 bits its values can't be counted or stored."""

When = Mapping[str, tuple[Value, ...]]
"""Condition of a parameter: for each parent parameter, the values that make this one active."""


def _check_bounds(kind: str, low: float, high: float) -> None:
    for bound in (low, high):
        if isinstance(bound, bool) or not isinstance(bound, int | float):
            raise ValueError(
                f"{kind} needs numbers as bounds, got {bound!r}; write 1.0e-5 for 1e-5"
            )
        # A comparison, because math.isfinite overflows on a huge int.
        if not -sys.float_info.max <= bound <= sys.float_info.max:
            raise ValueError(f"{kind} needs finite bounds, got {bound!r}")
    if low >= high:
        raise ValueError(
            f"{kind} needs low < high, got [{low}, {high}]; write a single value for a constant"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Uniform:
    """A real number, every value between the bounds equally likely."""

    low: float
    """Smallest value, inclusive."""
    high: float
    """Largest value, inclusive."""
    when: When = field(default_factory=dict)
    """Parents and the values of theirs that make this parameter active; empty means always."""

    def __post_init__(self) -> None:
        _check_bounds("uniform", self.low, self.high)

    @property
    def choices(self) -> None:
        """A continuous parameter can't be enumerated."""
        return

    def extremes(self) -> tuple[float, float]:
        """Return the bounds, for checking them against what a trial accepts."""
        return float(self.low), float(self.high)

    def sample(self, rng: random.Random) -> float:
        """Draw one value."""
        return rng.uniform(self.low, self.high)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameter as a study file writes it."""
        return {"uniform": [self.low, self.high], **_when_to_dict(self.when)}


@dataclass(frozen=True, kw_only=True, slots=True)
class LogUniform:
    """A positive real number whose logarithm is uniform: every decade equally likely."""

    low: float
    """Smallest value, inclusive, above 0."""
    high: float
    """Largest value, inclusive."""
    when: When = field(default_factory=dict)
    """Parents and the values of theirs that make this parameter active; empty means always."""

    def __post_init__(self) -> None:
        _check_bounds("log_uniform", self.low, self.high)
        if self.low <= 0:
            raise ValueError(f"log_uniform needs low > 0, got {self.low}; use uniform to include 0")

    @property
    def choices(self) -> None:
        """A continuous parameter can't be enumerated."""
        return

    def extremes(self) -> tuple[float, float]:
        """Return the bounds, for checking them against what a trial accepts."""
        return float(self.low), float(self.high)

    def sample(self, rng: random.Random) -> float:
        """Draw one value."""
        draw = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        # exp(log(x)) may leave the interval by one unit in the last place.
        return min(max(draw, self.low), self.high)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameter as a study file writes it."""
        return {"log_uniform": [self.low, self.high], **_when_to_dict(self.when)}


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

    def __post_init__(self) -> None:
        for name, number in (("low", self.low), ("high", self.high), ("step", self.step)):
            if isinstance(number, bool) or not isinstance(number, int):
                raise ValueError(f"int needs a whole number as {name}, got {number!r}")
        _check_bounds("int", self.low, self.high)
        if max(abs(self.low), abs(self.high)) > LARGEST_INT:
            raise ValueError(
                f"int needs bounds of at most {LARGEST_INT:g}, got [{self.low}, {self.high}]"
            )
        if self.step < 1:
            raise ValueError(f"int needs step >= 1, got {self.step}")

    @property
    def choices(self) -> range:
        """Every value that the parameter can take, in order."""
        return range(self.low, self.high + 1, self.step)

    def extremes(self) -> tuple[int, int]:
        """Return the smallest and largest reachable value."""
        return self.choices[0], self.choices[-1]

    def sample(self, rng: random.Random) -> int:
        """Draw one value."""
        return rng.choice(self.choices)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameter as a study file writes it."""
        step = {} if self.step == 1 else {"step": self.step}
        return {"int": [self.low, self.high], **step, **_when_to_dict(self.when)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One of a list of values; a list of one is a constant."""

    options: tuple[Value, ...]
    """The values, in the order in which a grid visits them."""
    when: When = field(default_factory=dict)
    """Parents and the values of theirs that make this parameter active; empty means always."""

    def __post_init__(self) -> None:
        if not self.options:
            raise ValueError("choice needs at least one value, got an empty list")
        for option in self.options:
            if not isinstance(option, str | int | float | bool):
                raise ValueError(
                    f"choice takes strings, numbers and booleans, got {option!r}; "
                    "name the alternative and let the trial look it up"
                )
        if len({(type(option), option) for option in self.options}) < len(self.options):
            raise ValueError(f"choice lists a value twice: {list(self.options)}")

    @property
    def choices(self) -> tuple[Value, ...]:
        """Every value that the parameter can take, in order."""
        return self.options

    def extremes(self) -> tuple[Value, ...]:
        """Return all options: each must be a value that a trial accepts."""
        return self.options

    def sample(self, rng: random.Random) -> Value:
        """Draw one value."""
        return rng.choice(self.options)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameter as a study file writes it."""
        return {"choice": list(self.options), **_when_to_dict(self.when)}


Parameter = Uniform | LogUniform | IntRange | Choice
"""Any dimension of a space."""


def _when_to_dict(when: When) -> dict[str, Any]:
    return {"when": {name: list(values) for name, values in when.items()}} if when else {}


def _parse_when(raw: Any) -> dict[str, tuple[Value, ...]]:  # noqa: ANN401 - unchecked YAML
    if not isinstance(raw, Mapping):
        raise ValueError(f"when maps a parameter to its values, like {{method: lora}}; got {raw!r}")
    return {
        str(name): tuple(values) if isinstance(values, list | tuple) else (values,)
        for name, values in raw.items()
    }


def _bounds(kind: str, raw: Any) -> Sequence[Any]:  # noqa: ANN401 - unchecked YAML
    if not isinstance(raw, list | tuple) or len(raw) != 2:
        raise ValueError(f"{kind} takes two bounds, like {kind}: [low, high]; got {raw!r}")
    return raw


KINDS = ("log_uniform", "uniform", "int", "choice")
"""The words with which a study file names a parameter's kind."""


def parse_parameter(raw: Any) -> Parameter:  # noqa: ANN401 - unchecked YAML
    """Build a parameter from what a study file says.

    Args:
        raw: ``{kind: bounds or options}`` with an optional ``when`` (and ``step`` for ``int``), or
            a bare value, which becomes a constant.

    Raises:
        ValueError: if the text names no kind, several kinds, or values that don't fit the kind.
    """
    if isinstance(raw, str | int | float | bool):
        return Choice(options=(raw,))
    if not isinstance(raw, Mapping):
        raise ValueError(f"expected {{kind: ...}} with a kind out of {list(KINDS)}, got {raw!r}")
    kinds = [kind for kind in KINDS if kind in raw]
    if len(kinds) != 1:
        found = ", ".join(map(str, raw)) or "nothing"
        raise ValueError(f"expected exactly one of {list(KINDS)}, got {found}")
    kind = kinds[0]
    extra = set(map(str, raw)) - {kind, "when"} - ({"step"} if kind == "int" else set())
    if extra:
        allowed = "step, when" if kind == "int" else "when"
        raise ValueError(f"unknown key {sorted(extra)[0]!r} beside {kind}; allowed: {allowed}")
    when = _parse_when(raw["when"]) if "when" in raw else {}
    if kind == "choice":
        options = raw[kind]
        if not isinstance(options, list | tuple):
            raise ValueError(f"choice takes a list of values, got {options!r}")
        return Choice(options=tuple(options), when=when)
    low, high = _bounds(kind, raw[kind])
    if kind == "int":
        return IntRange(low=low, high=high, step=raw.get("step", 1), when=when)
    if kind == "uniform":
        return Uniform(low=low, high=high, when=when)
    return LogUniform(low=low, high=high, when=when)
