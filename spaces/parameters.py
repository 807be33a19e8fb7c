"""One dimension of a space: every kind of parameter, and how a study file writes it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spaces.conditions import Value, When, parse_when
from spaces.options import Choice, Grid, Ordinal
from spaces.priors import parse_prior
from spaces.ranges import IntRange, LogIntRange, LogUniform, Uniform

__all__ = [
    "KINDS",
    "Choice",
    "Grid",
    "IntRange",
    "LogIntRange",
    "LogUniform",
    "Ordinal",
    "Parameter",
    "Uniform",
    "Value",
    "When",
    "parse_parameter",
]

Parameter = Uniform | LogUniform | IntRange | LogIntRange | Choice | Ordinal | Grid
"""Any dimension of a space."""

_RANGES: dict[str, Callable[..., Parameter]] = {
    "log_uniform": LogUniform,
    "uniform": Uniform,
    "int": IntRange,
    "log_int": LogIntRange,
}
_LISTS: dict[str, Callable[..., Parameter]] = {"choice": Choice, "ordinal": Ordinal, "grid": Grid}

KINDS = (*_RANGES, *_LISTS)
"""The words with which a study file names a parameter's kind."""

STEPPED = ("uniform", "int")
"""Kinds that take a ``step``."""


def parse_parameter(raw: Any) -> Parameter:  # noqa: ANN401 - unchecked YAML
    """Build a parameter from what a study file says.

    Args:
        raw: ``{kind: bounds or options}`` with an optional ``when``, ``prior`` and
            ``prior_confidence`` but for ``grid``, and ``step`` for ``uniform`` and ``int``; or a
            bare value, which becomes a constant.

    Raises:
        ValueError: if the text names no kind, several kinds, or values that don't fit the kind.
    """
    if isinstance(raw, str | int | float | bool):
        return Choice(options=(raw,))
    if not isinstance(raw, Mapping):
        raise ValueError(f"expected {{kind: ...}} with a kind out of {list(KINDS)}, got {raw!r}")
    kinds = [kind for kind in KINDS if kind in raw]
    if len(kinds) != 1:
        found = ", ".join(map(str, raw)) or "nothing"
        raise ValueError(f"expected exactly one of {list(KINDS)}, got {found}")
    kind = kinds[0]
    _check_keys(kind, raw)
    when = parse_when(raw["when"]) if "when" in raw else {}
    prior = parse_prior(raw)
    if kind in _LISTS:
        options = raw[kind]
        if not isinstance(options, list | tuple):
            raise ValueError(f"{kind} takes a list of values, got {options!r}")
        return _LISTS[kind](options=tuple(options), when=when, **prior)
    low, high = _bounds(kind, raw[kind])
    step = {"step": raw["step"]} if "step" in raw else {}
    return _RANGES[kind](low=low, high=high, when=when, **step, **prior)


def _check_keys(kind: str, raw: Mapping[Any, Any]) -> None:
    if kind == "log_uniform" and "step" in raw:
        raise ValueError(
            "log_uniform takes no step, since equal steps would crowd its last decade; list the "
            "values, ordinal: [1.0e-5, 1.0e-4, 1.0e-3], or use uniform"
        )
    step = ("step",) if kind in STEPPED else ()
    allowed = (*step, "when", *(() if kind == "grid" else ("prior", "prior_confidence")))
    extra = sorted(set(map(str, raw)) - {kind, *allowed})
    if extra:
        raise ValueError(f"unknown key {extra[0]!r} beside {kind}; allowed: {', '.join(allowed)}")


def _bounds(kind: str, raw: Any) -> Sequence[Any]:  # noqa: ANN401 - unchecked YAML
    if not isinstance(raw, list | tuple) or len(raw) != 2:
        raise ValueError(f"{kind} takes two bounds, like {kind}: [low, high]; got {raw!r}")
    return raw
