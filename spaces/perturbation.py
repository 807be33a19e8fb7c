"""Small changes of a point, for a model that goes on training with other hyperparameters."""

import random
from collections.abc import Mapping

from spaces.conditions import Value
from spaces.parameters import (
    Choice,
    Grid,
    LogIntRange,
    LogUniform,
    Ordinal,
    Parameter,
)
from spaces.scales import Parts
from spaces.space import Space

CHANGEABLE = (
    "learning_rate",
    "field_learning_rate",
    "weight_decay",
    "dropout",
    "category_dropout",
    "category_swap",
    "timestamp_jitter",
    "augmentation_rate",
    "augmented_share",
    "mixup_alpha",
)
"""Hyperparameters that may change while a model trains. The others shape the model, its optimizer's
state or the number of steps."""

FACTORS = (0.8, 1.2)
"""What a number is multiplied by (Jaderberg et al. 2017, https://arxiv.org/abs/1711.09846)."""

ATTEMPTS = 64
"""Draws of one point before the old one is kept."""


def changeable(space: Space) -> tuple[str, ...]:
    """Return the parameters of a space that vary and may change while a model trains.

    One on whose value others wait is none of them: with it parameters would come and go.
    """
    awaited = {parent for parameter in space.parameters.values() for parent in parameter.when}
    return tuple(
        name
        for name, parameter in space.parameters.items()
        if name in CHANGEABLE
        and name not in awaited
        and (parameter.choices is None or len(parameter.choices) > 1)
    )


def perturb(space: Space, point: Mapping[str, Value], rng: random.Random) -> dict[str, Value]:
    """Change every active parameter of a point that may change while a model trains.

    A number of a range is multiplied by one of :data:`FACTORS`, within the range; where it has
    steps, it moves by at least one. Of a list it becomes the next larger or smaller one, of an
    ordinal the one before or after.

    Args:
        space: The point's space.
        point: Stays as it is.
        rng: Draws the directions; again while constraints forbid the result, or nothing changes.

    Returns:
        The new point; an equal one where no draw was allowed.
    """
    names = [name for name in changeable(space) if name in point]
    for _ in range(ATTEMPTS):
        changed = {name: _move(space.parameters[name], point[name], rng) for name in names}
        found = {**point, **changed}
        if found != dict(point) and space.allows(found):
            return found
    return dict(point)


def _move(parameter: Parameter, value: Value, rng: random.Random) -> Value:
    if isinstance(parameter, Choice | Grid | Ordinal):
        return _neighbour(parameter, value, rng)
    factor = rng.choice(FACTORS)
    # Every parameter that may change is a number.
    assert isinstance(value, int | float)
    low, high = parameter.extremes()
    target = min(max(value * factor, low), high)
    if isinstance(parameter, LogUniform) or parameter.choices is None:
        return target
    step = 1 if isinstance(parameter, LogIntRange) else parameter.step
    assert step is not None
    place, moved = (round((number - low) / step) for number in (value, target))
    if moved == place:
        # Steps may be coarser than a fifth of the value.
        moved += 1 if factor > 1 else -1
    return parameter.choices[min(max(moved, 0), len(parameter.choices) - 1)]


def _neighbour(parameter: Choice | Grid | Ordinal, value: Value, rng: random.Random) -> Value:
    options = parameter.options
    if not isinstance(parameter, Ordinal):
        # By their size: they may be listed in any order.
        options = tuple(sorted(options, key=float))
    place = Parts(options).place_of(value)
    assert place is not None
    near = (_shifted(place, up, len(options)) for up in (False, True))
    return options[rng.choice([other for other in near if other != place])]


def _shifted(place: int, up: bool, count: int) -> int:
    return min(max(place + (1 if up else -1), 0), count - 1)
