"""Grids in a space of draws: the combinations of their values, and what each leaves of it."""

import dataclasses
import json
from collections.abc import Mapping
from functools import lru_cache

from spaces.parameters import Choice, Grid, Parameter, Value
from spaces.space import Space

MOST_COMBINATIONS = 1_000
"""Combinations that trials can take in turn: each is checked by itself, and more are rarely run."""

Combination = Mapping[str, Value]
"""Values of grid parameters, by name."""


def grid_combinations(space: Space) -> tuple[Combination, ...]:
    """List the combinations that trials take in turn, the last grid fastest.

    What can never come about is left out: a grid where those above it make it inactive, and a
    combination that constraints forbid whatever else is drawn, or with which draws that they allow
    are rarer than a space may have them. A grid that waits for a drawn parameter is listed; a point
    goes without it where the draw doesn't fit.

    Returns:
        The combinations; of a space without grids the empty one alone.

    Raises:
        ValueError: if they are more than :data:`MOST_COMBINATIONS`, or none.
    """
    if not space.grids():
        return ({},)
    return _list_combinations(json.dumps(space.to_dict()))


# Where constraints forbid combinations, each of those costs a thousand draws and more.
@lru_cache(maxsize=8)
def _list_combinations(text: str) -> tuple[Combination, ...]:
    space = Space.parse(json.loads(text))
    grids = _grids_alone(space)
    count = grids.count()
    if count is None or count > MOST_COMBINATIONS:
        found = "too many" if count is None else f"{count:,}"
        raise ValueError(
            f"{', '.join(space.grids())} have {found} combinations, and trials take up to "
            f"{MOST_COMBINATIONS:,} in turn; write choice instead of grid, or list fewer values"
        )
    combinations = tuple(grids.enumerate())
    if any(0 < len(set(c.names) - set(space.grids())) < len(c.names) for c in space.constraints):
        combinations = tuple(found for found in combinations if _leaves_points(space, found))
    if not combinations:
        raise ValueError(
            f"constraints leave too few points for any combination of {', '.join(space.grids())}; "
            "loosen them, or write choice instead of grid"
        )
    return combinations


def part_of(space: Space, combination: Combination) -> Space:
    """Return the part of a space in which its grids have the values of a combination.

    Raises:
        ValueError: if constraints leave nothing of it, or too little to be found by chance.
    """
    if not combination:
        return space
    kept: dict[str, Parameter] = {}
    for name, parameter in space.parameters.items():
        if isinstance(parameter, Grid) and name not in combination:
            continue
        given = {parent: combination[parent] for parent in parameter.when if parent in combination}
        if any(value not in parameter.when[parent] for parent, value in given.items()):
            continue
        if not set(parameter.when) <= set(kept):
            continue
        when = {parent: values for parent, values in parameter.when.items() if parent not in given}
        if name in combination:
            kept[name] = Choice(options=(combination[name],), when=when)
        else:
            kept[name] = dataclasses.replace(parameter, when=when)
    constraints = tuple(c for c in space.constraints if set(c.names) <= set(kept))
    return Space(kept, constraints)


def _leaves_points(space: Space, combination: Combination) -> bool:
    try:
        part_of(space, combination)
    except ValueError:
        # All else about it was checked with the whole space: its constraints can't be fulfilled.
        return False
    return True


def _grids_alone(space: Space) -> Space:
    """Return a space of the grids, with what conditions and constraints say of them alone."""
    kept: dict[str, Parameter] = {}
    for name in space.grids():
        when = _conditions_on_grids(space, name)
        if all(when.values()) and set(when) <= set(kept):
            kept[name] = dataclasses.replace(space.parameters[name], when=when)
    constraints = tuple(c for c in space.constraints if set(c.names) <= set(kept))
    return Space(kept, constraints)


def _conditions_on_grids(space: Space, name: str) -> dict[str, tuple[Value, ...]]:
    """Return which values of grids a parameter needs, also for the drawn ones that it waits for."""
    needed: dict[str, tuple[Value, ...]] = {}
    for parent, values in space.parameters[name].when.items():
        is_grid = isinstance(space.parameters[parent], Grid)
        above = {parent: values} if is_grid else _conditions_on_grids(space, parent)
        for grid, allowed in above.items():
            needed[grid] = tuple(v for v in needed.get(grid, allowed) if v in allowed)
    return needed
