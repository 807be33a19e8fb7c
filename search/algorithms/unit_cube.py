"""Parameters as coordinates from 0 to 1, and back."""

import math

from spaces.parameters import IntRange, LogIntRange, LogUniform, Parameter, Uniform, Value
from spaces.space import Space

Number = Uniform | LogUniform | IntRange | LogIntRange
"""Parameters with a distance between their values."""


def to_value(parameter: Parameter, coordinate: float) -> Value:
    """Return the value at a coordinate: uniform coordinates give what ``sample`` would draw.

    Options, steps and whole numbers get equal parts of the interval, in their order; those of
    ``log_int`` equal parts of the logarithm.
    """
    if isinstance(parameter, LogIntRange):
        low, high = _log_int_bounds(parameter)
        value = round(math.exp(low + coordinate * (high - low)))
        return min(max(value, parameter.low), parameter.high)
    choices = parameter.choices
    if choices is not None:
        return choices[min(int(coordinate * len(choices)), len(choices) - 1)]
    assert isinstance(parameter, Uniform | LogUniform)
    low, high = parameter.extremes()
    if isinstance(parameter, LogUniform):
        number = math.exp(math.log(low) + coordinate * (math.log(high) - math.log(low)))
    else:
        # Not low + coordinate * (high - low), which overflows where the bounds are far apart.
        number = (1 - coordinate) * low + coordinate * high
    return min(max(number, low), high)


def to_coordinate(parameter: Number, value: float) -> float:
    """Return the coordinate of a number; of a whole one or a step, the middle of its part."""
    if isinstance(parameter, LogIntRange):
        low, high = _log_int_bounds(parameter)
        return (math.log(value) - low) / (high - low)
    if isinstance(parameter, IntRange):
        return (parameter.choices.index(int(value)) + 0.5) / len(parameter.choices)
    if (steps := parameter.choices) is not None:
        return (steps.index(value) + 0.5) / len(steps)
    low, high = parameter.extremes()
    if isinstance(parameter, LogUniform):
        low, high, value = math.log(low), math.log(high), math.log(value)
    # Halves, because a difference of bounds may overflow.
    return (value / 2 - low / 2) / (high / 2 - low / 2)


def _log_int_bounds(parameter: LogIntRange) -> tuple[float, float]:
    # Half a step beyond, as in ``sample``.
    return math.log(parameter.low - 0.5), math.log(parameter.high + 0.5)


def shared_numbers(space: Space) -> dict[str, Number]:
    """Return the parameters that are a number in every point, and not always the same one."""
    return {
        name: parameter
        for name, parameter in space.parameters.items()
        if isinstance(parameter, Number)
        and not parameter.when
        and len(set(parameter.extremes())) > 1
    }
