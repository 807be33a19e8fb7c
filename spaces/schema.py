"""The JSON Schema of a space, as a study file writes it."""

from collections.abc import Mapping
from typing import Any, get_args

from spaces.priors import Confidence
from spaces.space import CONSTRAINTS, preset_names
from spaces.trial_config import SEARCHABLE

_VALUE: dict[str, Any] = {"type": ["string", "number", "boolean"]}
_VALUES: dict[str, Any] = {"type": "array", "items": _VALUE, "minItems": 1}
_WHEN: dict[str, Any] = {
    "type": "object",
    "additionalProperties": {"anyOf": [_VALUE, _VALUES]},
    "description": "The parameter exists only where earlier ones hold one of these values.",
}


def _bounds(kind: str, *, least: float | None = None) -> dict[str, Any]:
    item: dict[str, Any] = {"type": kind} if least is None else {"type": kind, "minimum": least}
    return {"type": "array", "items": item, "minItems": 2, "maxItems": 2}


def _prior(value: Mapping[str, Any]) -> dict[str, Any]:
    prior = {**value, "description": "A value that is expected to be good, and drawn more often."}
    confidence = {
        "enum": list(get_args(Confidence)),
        "description": "How closely draws gather around the prior; medium where it is left out.",
    }
    return {"prior": prior, "prior_confidence": confidence}


_NUMBER_PRIOR = _prior({"type": "number"})
_WHOLE_PRIOR = _prior({"type": "integer"})
_VALUE_PRIOR = _prior(_VALUE)
_STEP: dict[str, Any] = {"type": ["number", "null"], "exclusiveMinimum": 0}
_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "log_uniform": (
        "A positive number whose logarithm is uniform: every decade equally likely.",
        {"log_uniform": _bounds("number", least=0), **_NUMBER_PRIOR},
    ),
    "uniform": (
        "A number between two bounds, or one of the steps between them.",
        {"uniform": _bounds("number"), "step": _STEP, **_NUMBER_PRIOR},
    ),
    "int": (
        "A whole number from low to high, in steps.",
        {"int": _bounds("integer"), "step": {"type": "integer", "minimum": 1}, **_WHOLE_PRIOR},
    ),
    "log_int": (
        "A whole number whose logarithm is uniform.",
        {"log_int": _bounds("integer", least=1), **_WHOLE_PRIOR},
    ),
    "choice": ("One of a list of values.", {"choice": _VALUES, **_VALUE_PRIOR}),
    "ordinal": ("One of a list of values in order.", {"ordinal": _VALUES, **_VALUE_PRIOR}),
    "grid": ("One of a list of values that trials take in turn.", {"grid": _VALUES}),
}


def space_schema(descriptions: Mapping[str, str]) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a study's ``space``.

    Args:
        descriptions: What each hyperparameter is, by name.
    """
    kinds = [
        {
            "type": "object",
            "description": description,
            "properties": {**properties, "when": _WHEN},
            "required": [kind],
            "dependentRequired": {"prior_confidence": ["prior"]},
            "additionalProperties": False,
        }
        for kind, (description, properties) in _KINDS.items()
    ]
    parameter = {"anyOf": [{**_VALUE, "description": "A constant."}, *kinds]}
    constraints = {
        "type": "array",
        "items": {"type": "string"},
        "description": "Comparisons that every point fulfils, such as batch_size * 4 <= 256.",
    }
    properties = {name: {"description": descriptions[name], **parameter} for name in SEARCHABLE}
    space = {
        "type": "object",
        "minProperties": 1,
        "properties": {**properties, CONSTRAINTS: constraints},
        "additionalProperties": False,
    }
    return {"anyOf": [{"enum": list(preset_names()), "description": "A ready space."}, space]}
