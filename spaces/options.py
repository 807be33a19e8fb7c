"""Parameters whose values are listed: Choice without an order, Ordinal in order, Grid in turn."""

import itertools
import random
from dataclasses import dataclass, field
from typing import Any

from spaces.conditions import Value, When, when_to_dict
from spaces.priors import Prior, normal_quantile, prior_to_dict, weighted_quantile
from spaces.scales import Parts


def _check_options(kind: str, options: tuple[Value, ...]) -> None:
    if not options:
        raise ValueError(f"{kind} needs at least one value, got an empty list")
    for option in options:
        if not isinstance(option, str | int | float | bool):
            raise ValueError(
                f"{kind} takes strings, numbers and booleans, got {option!r}; "
                "name the alternative and let the trial look it up"
            )
    if len({(type(option), option) for option in options}) < len(options):
        raise ValueError(f"{kind} lists a value twice: {list(options)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Listed:
    """One of a list of values."""

    options: tuple[Value, ...]
    """The values, in the order in which a grid visits them. Those of an Ordinal are strings in an
    order of one's own, or numbers that rise or fall."""
    when: When = field(default_factory=dict)
    """Parents and the values of theirs that make this parameter active; empty means always."""

    @property
    def choices(self) -> tuple[Value, ...]:
        """Every value that the parameter can take, in order."""
        return self.options

    def extremes(self) -> tuple[Value, ...]:
        """Return all options: each must be a value that a trial accepts."""
        return self.options

    @property
    def scale(self) -> Parts:
        """Coordinates of the values."""
        return Parts(self.options)


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice(_Listed):
    """One of a list of values; a list of one is a constant."""

    prior: Prior | None = None
    """Which value is drawn more often than the others; None: none."""

    def __post_init__(self) -> None:
        _check_options("choice", self.options)
        if self.prior is not None:
            self.prior.check(self.scale)

    def sample(self, rng: random.Random) -> Value:
        """Draw one value."""
        if self.prior is not None:
            return self.quantile(rng.random())
        return rng.choice(self.options)

    def quantile(self, share: float) -> Value:
        """Return the value below which a share of the draws lies, from 0 to 1."""
        value: Value = self.scale.value_at(weighted_quantile(share, self.prior, self.scale))
        return value

    def to_dict(self) -> dict[str, Any]:
        """Return the parameter as a study file writes it."""
        return {
            "choice": list(self.options),
            **prior_to_dict(self.prior),
            **when_to_dict(self.when),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Ordinal(_Listed):
    """One of a list of values in order: an algorithm may learn that neighbours are alike."""

    prior: Prior | None = None
    """Where draws gather; None: nowhere."""

    def __post_init__(self) -> None:
        _check_options("ordinal", self.options)
        self._check_order()
        if self.prior is not None:
            self.prior.check(self.scale)

    def _check_order(self) -> None:
        if all(isinstance(option, str) for option in self.options):
            return
        numbers = [
            option
            for option in self.options
            if isinstance(option, int | float) and not isinstance(option, bool)
        ]
        if len(numbers) < len(self.options):
            raise ValueError(
                f"ordinal takes either strings or numbers, got {list(self.options)}; use choice "
                "for values without an order"
            )
        pairs = list(itertools.pairwise(numbers))
        if not (all(a < b for a, b in pairs) or all(a > b for a, b in pairs)):
            raise ValueError(
                f"ordinal needs its numbers in order, got {numbers}; sort them, or use choice for "
                "values without an order"
            )

    def sample(self, rng: random.Random) -> Value:
        """Draw one value."""
        if self.prior is not None:
            return self.quantile(rng.random())
        return rng.choice(self.options)

    def quantile(self, share: float) -> Value:
        """Return the value below which a share of the draws lies, from 0 to 1."""
        value: Value = self.scale.value_at(normal_quantile(share, self.prior, self.scale))
        return value

    def to_dict(self) -> dict[str, Any]:
        """Return the parameter as a study file writes it."""
        return {
            "ordinal": list(self.options),
            **prior_to_dict(self.prior),
            **when_to_dict(self.when),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid(_Listed):
    """One of a list of values that trials take in turn, while others are drawn."""

    def __post_init__(self) -> None:
        _check_options("grid", self.options)

    def sample(self, rng: random.Random) -> Value:
        """Draw one value, for what looks at some points of a space in no order."""
        return rng.choice(self.options)

    def quantile(self, share: float) -> Value:
        """Return the value below which a share of the draws lies, from 0 to 1."""
        value: Value = self.scale.value_at(share)
        return value

    def to_dict(self) -> dict[str, Any]:
        """Return the parameter as a study file writes it."""
        return {"grid": list(self.options), **when_to_dict(self.when)}
