"""The numbers that every point of a space has: those that an evolution strategy can move in."""

from spaces.parameters import IntRange, LogIntRange, LogUniform, Uniform
from spaces.space import Space

Number = Uniform | LogUniform | IntRange | LogIntRange
"""Parameters with a distance between their values."""


def shared_numbers(space: Space) -> dict[str, Number]:
    """Return the parameters that are a number in every point, and not always the same one."""
    return {
        name: parameter
        for name, parameter in space.parameters.items()
        if isinstance(parameter, Number)
        and not parameter.when
        and len(set(parameter.extremes())) > 1
    }
