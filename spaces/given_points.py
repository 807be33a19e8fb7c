"""Points that a user names: checked against the space, and completed where they are partial."""

import math
from collections.abc import Mapping, Sequence

from spaces.conditions import Value, is_active
from spaces.options import Choice, Grid
from spaces.parameters import Parameter
from spaces.ranges import LogIntRange, LogUniform
from spaces.space import Space
from spaces.spelling import nearest
from spaces.trial_config import TrialConfig

ALL_BY_DEFAULT = ("encoder_layers", "tuned_layers")
"""Settings that mean all there are where they are left out: nearest to that is the most."""


def complete_points(
    space: Space, given: Sequence[Mapping[str, Value]], *, where: str
) -> tuple[dict[str, Value], ...]:
    """Complete points one by one, as :func:`complete_point` does.

    Args:
        space: Where they have to lie.
        given: Parameters by name, for each point.
        where: What to call the list in an error.

    Raises:
        ValueError: if one doesn't lie in the space, or trains the same model as an earlier one.
    """
    points: list[dict[str, Value]] = []
    earlier: dict[str, int] = {}
    for index, some in enumerate(given):
        try:
            point = complete_point(space, some)
        except ValueError as error:
            raise ValueError(f"{where}[{index}]: {error}") from error
        model = TrialConfig(**point).effective_key()  # type: ignore[arg-type]
        if model in earlier:
            raise ValueError(
                f"{where}[{index}] trains the same model as {where}[{earlier[model]}], {point}; "
                "leave one out"
            )
        earlier[model] = index
        points.append(point)
    return tuple(points)


def complete_point(space: Space, given: Mapping[str, Value]) -> dict[str, Value]:
    """Return the point of a space that a user means.

    Args:
        space: Where the point has to lie.
        given: Some or all parameters by name. One that is left out gets ClickTune's default if the
            space has it, else the middle of its range, or the first of its choices.

    Raises:
        ValueError: naming what is unknown, outside of the space, inactive, or against a constraint.
    """
    for name in given:
        if name not in space.parameters:
            raise ValueError(
                f"{name!r} is not in the space{nearest(name, tuple(space.parameters))}"
            )

    def decide(name: str, parameter: Parameter) -> Value:
        if name not in given:
            return _usual(name, parameter)
        value: Value | None = parameter.scale.find(given[name])
        if value is None:
            raise ValueError(f"{name} is {given[name]!r}, which is not in {parameter.to_dict()}")
        return value

    point = space.walk(decide)
    for name in given:
        if name not in point:
            when = space.parameters[name].when
            parent = next(parent for parent in when if not is_active({parent: when[parent]}, point))
            waits = " or ".join(map(str, when[parent]))
            raise ValueError(
                f"{name} is given, but it only exists where {parent} is {waits}, and {parent} is "
                f"{point.get(parent, 'not there')}; leave it out, or give {parent} too"
            )
    for constraint in space.constraints:
        if not constraint.holds(point):
            values = ", ".join(f"{name} {point[name]}" for name in constraint.names)
            raise ValueError(f"it breaks the constraint {constraint.text!r} with {values}")
    return point


def _usual(name: str, parameter: Parameter) -> Value:
    default = getattr(TrialConfig(), name)
    if name in ALL_BY_DEFAULT:
        return max(v for v in parameter.extremes() if isinstance(v, int))
    expected = None if isinstance(parameter, Grid) or not parameter.prior else parameter.prior.value
    for value in (default, expected):
        found: Value | None = None if value is None else parameter.scale.find(value)
        if found is not None:
            return found
    return _middle(parameter)


def _middle(parameter: Parameter) -> Value:
    if isinstance(parameter, Choice | Grid):
        return parameter.options[0]
    if isinstance(parameter, LogIntRange):
        return round(math.sqrt(parameter.low) * math.sqrt(parameter.high))
    if isinstance(parameter, LogUniform):
        return math.sqrt(parameter.low) * math.sqrt(parameter.high)
    if parameter.choices is not None:
        return parameter.choices[(len(parameter.choices) - 1) // 2]
    low, high = parameter.extremes()
    return low / 2 + high / 2
