"""Conditions: for which values of earlier parameters a parameter exists."""

from collections.abc import Mapping
from typing import Any

Value = str | int | float | bool
"""What a parameter can hold: plain, so that every ledger and storage keeps it exactly."""

When = Mapping[str, tuple[Value, ...]]
"""Condition of a parameter: for each parent parameter, the values that make this one active."""


def is_active(when: When, point: Mapping[str, Value]) -> bool:
    """Tell whether a point's parents hold values that make a parameter active."""
    return all(parent in point and point[parent] in values for parent, values in when.items())


def parse_when(raw: Any) -> dict[str, tuple[Value, ...]]:  # noqa: ANN401 - unchecked YAML
    """Read a condition as a study file writes it: ``{parent: value or list of values}``.

    Raises:
        ValueError: if it is no mapping.
    """
    if not isinstance(raw, Mapping):
        raise ValueError(f"when maps a parameter to its values, like {{method: lora}}; got {raw!r}")
    return {
        str(name): tuple(values) if isinstance(values, list | tuple) else (values,)
        for name, values in raw.items()
    }


def when_to_dict(when: When) -> dict[str, Any]:
    """Return a condition as a study file writes it, nothing for none."""
    return {"when": {name: list(values) for name, values in when.items()}} if when else {}
