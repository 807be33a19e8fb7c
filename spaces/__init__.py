"""What may vary in a study: parameters, spaces of them, and one point of a space."""

from spaces.parameters import (
    Choice,
    Grid,
    IntRange,
    LogIntRange,
    LogUniform,
    Ordinal,
    Parameter,
    Uniform,
    Value,
)
from spaces.space import Space
from spaces.trial_config import TrialConfig

__all__ = [
    "Choice",
    "Grid",
    "IntRange",
    "LogIntRange",
    "LogUniform",
    "Ordinal",
    "Parameter",
    "Space",
    "TrialConfig",
    "Uniform",
    "Value",
]
