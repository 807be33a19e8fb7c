"""What may vary in a study: parameters, spaces of them, and one point of a space."""

from spaces.parameters import Choice, IntRange, LogUniform, Parameter, Uniform, Value
from spaces.space import Space
from spaces.trial_config import TrialConfig

__all__ = [
    "Choice",
    "IntRange",
    "LogUniform",
    "Parameter",
    "Space",
    "TrialConfig",
    "Uniform",
    "Value",
]
