"""Parameters as coordinates from 0 to 1, and back."""

import math

from spaces.parameters import IntRange, LogUniform, Parameter, Uniform, Value
from spaces.space import Space


def to_value(parameter: Parameter, coordinate: float) -> Value:
    """Return the value at a coordinate: uniform coordinates give what ``sample`` would draw.

    Options and whole numbers get equal parts of the interval, in their order.
    """
    choices = parameter.choices
    if choices is not None:
        return choices[min(int(coordinate * len(choices)), len(choices) - 1)]
    low, high = float(parameter.extremes()[0]), float(parameter.extremes()[-1])
    if isinstance(parameter, LogUniform):
        value = math.exp(math.log(low) + coordinate * (math.log(high) - math.log(low)))
    else:
        # Not low + coordinate * (high - low), which overflows where the bounds are far apart.
        value = (1 - coordinate) * low + coordinate * high
    return min(max(value, low), high)


def to_coordinate(parameter: Uniform | LogUniform | IntRange, value: float) -> float:
    """Return the coordinate of a number, for a whole one the middle of its part."""
    if isinstance(parameter, IntRange):
        choices = parameter.choices
        return (choices.index(int(value)) + 0.5) / len(choices)
    low, high = parameter.extremes()
    if isinstance(parameter, LogUniform):
        low, high, value = math.log(low), math.log(high), math.log(value)
    # Halves, because a difference of bounds may overflow.
    return (value / 2 - low / 2) / (high / 2 - low / 2)


def shared_numbers(space: Space) -> dict[str, Uniform | LogUniform | IntRange]:
    """Return the parameters that are a number in every point, and not always the same one."""
    return {
        name: parameter
        for name, parameter in space.parameters.items()
        if isinstance(parameter, Uniform | LogUniform | IntRange)
        and not parameter.when
        and len(set(parameter.extremes())) > 1
    }
