"""A study's space as a table for the terminal: kinds, values, priors, conditions, constraints."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.formatting import format_params, format_value
from search.study_config import StudyConfig
from search.tables import new_table, say
from spaces.grids import grid_combinations
from spaces.space import Space


def space_table(space: Space) -> Table:
    """Draw what each parameter may be, and when it is there."""
    table = new_table("space")
    expected = space.expected()
    priors = ("prior",) if expected else ()
    for name in ("parameter", "kind", "values", *priors, "when"):
        table.add_column(name)
    for name, parameter in space.parameters.items():
        raw = parameter.to_dict()
        kind = next(iter(raw))
        constant = kind == "choice" and len(raw[kind]) == 1
        prior = (_prior(raw),) if expected else ()
        kind_or_constant = "constant" if constant else kind
        cells = (name, kind_or_constant, _values(kind, raw), *prior, _condition(raw))
        table.add_row(*map(Text, cells))
    return table


def print_space(console: Console, config: StudyConfig) -> None:
    """Print a study's space, its grids, its constraints and the points that it starts from."""
    console.print(space_table(config.space))
    if (grids := config.space.grids()) and config.search.algorithm != "grid":
        count = len(grid_combinations(config.space))
        say(
            console,
            f"grid: any {count} trials in a row have each combination of {', '.join(grids)}",
        )
    for constraint in config.space.constraints:
        say(console, f"constraint: {constraint.text}")
    for point in config.start_points():
        say(console, f"starts from: {format_params(point)}")


def _values(kind: str, raw: Mapping[str, Any]) -> str:
    values = [format_value(value) for value in raw[kind]]
    if kind in ("choice", "grid"):
        return ", ".join(values)
    if kind == "ordinal":
        return " < ".join(values) if isinstance(raw[kind][0], str) else ", ".join(values)
    step = f" in steps of {format_value(raw['step'])}" if "step" in raw else ""
    return f"{values[0]} to {values[1]}{step}"


def _prior(raw: Mapping[str, Any]) -> str:
    if "prior" not in raw:
        return ""
    return f"{format_value(raw['prior'])}, {raw['prior_confidence']} confidence"


def _condition(raw: Mapping[str, Any]) -> str:
    conditions: Mapping[str, list[Any]] = raw.get("when", {})
    return " and ".join(
        f"{parent} is {' or '.join(map(format_value, values))}"
        for parent, values in conditions.items()
    )
