"""Where an expert expects a parameter's best value, and how often it is drawn for that."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, get_args

from spaces.conditions import Value
from spaces.scales import Parts, Scale

Confidence = Literal["low", "medium", "high"]
"""How sure the expert is."""

SPREADS: Mapping[Confidence, float] = {"low": 0.5, "medium": 0.25, "high": 0.125}
"""Standard deviation of a number's draws, as a share of its range, or of its logarithm's range."""

WEIGHTS: Mapping[Confidence, int] = {"low": 2, "medium": 4, "high": 6}
"""How many times as often as each other value a choice draws the expected one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prior:
    """A value that is expected to be good, as in PriorBand.

    Mallik et al. 2023, "PriorBand: Practical Hyperparameter Optimization in the Age of Deep
    Learning", https://arxiv.org/abs/2306.12370; spreads and weights are those of its
    implementation, NePS.
    """

    value: Value
    """The value, one that the parameter can take."""
    confidence: Confidence = "medium"
    """How closely draws gather around it."""

    def __post_init__(self) -> None:
        if self.confidence not in get_args(Confidence):
            raise ValueError(
                f"prior_confidence must be one of {', '.join(get_args(Confidence))}, got "
                f"{self.confidence!r}"
            )

    @property
    def spread(self) -> float:
        """Standard deviation of a number's coordinate, which is from 0 to 1."""
        return SPREADS[self.confidence]

    def check(self, scale: Scale) -> None:
        """Refuse a value that isn't one of a parameter's.

        Raises:
            ValueError: naming it and what the parameter takes.
        """
        if scale.find(self.value) is None:
            if isinstance(self.value, str) and not isinstance(scale, Parts):
                raise ValueError(
                    f"prior is the text {self.value!r}, and the parameter takes {scale}; YAML "
                    "reads a number such as 5e-4 as text, write 5.0e-4"
                )
            raise ValueError(f"prior is {self.value!r}, but the parameter takes {scale}")


def normal_quantile(share: float, prior: Prior | None, scale: Scale) -> float:
    """Return the coordinate below which a share of a number's draws lies.

    The coordinates of draws are normally distributed around the prior's, truncated to the range;
    without a prior they are uniform.

    Args:
        share: From 0 to 1.
        prior: What is expected, if anything.
        scale: Gives values their coordinates.
    """
    if prior is None:
        return share
    # The prior is on the scale, which its parameter has checked.
    normal = NormalDist(scale.coordinate_of(prior.value), prior.spread)  # type: ignore[arg-type]
    below, above = normal.cdf(0), normal.cdf(1)
    return min(max(normal.inv_cdf(below + share * (above - below)), 0.0), 1.0)


def weighted_quantile(share: float, prior: Prior | None, scale: Parts) -> float:
    """Return the coordinate below which a share of a choice's draws lies.

    The prior's value has the weight of its confidence, each other value a weight of 1; without a
    prior all weigh the same.

    Args:
        share: From 0 to 1.
        prior: What is expected, if anything.
        scale: Gives values their places.
    """
    if prior is None:
        return share
    place, weight = scale.place_of(prior.value), WEIGHTS[prior.confidence]
    assert place is not None
    mass = share * (len(scale.choices) - 1 + weight)
    if mass > place + weight:
        mass -= weight - 1
    elif mass > place:
        mass = place + (mass - place) / weight
    return mass / len(scale.choices)


def parse_prior(raw: Mapping[Any, Any]) -> dict[str, Prior]:
    """Read ``prior`` and ``prior_confidence`` of a parameter, as arguments for it.

    Raises:
        ValueError: if there is a confidence without a prior, or the prior is no value.
    """
    if "prior" not in raw:
        if "prior_confidence" in raw:
            raise ValueError(
                "prior_confidence says how sure a prior is; name the value, prior: ..."
            )
        return {}
    value = raw["prior"]
    if not isinstance(value, str | int | float | bool):
        raise ValueError(f"prior takes one value, got {value!r}")
    confidence = raw.get("prior_confidence", "medium")
    return {"prior": Prior(value=value, confidence=confidence)}


def prior_to_dict(prior: Prior | None) -> dict[str, Any]:
    """Return a prior as a study file writes it, nothing for none."""
    if prior is None:
        return {}
    return {"prior": prior.value, "prior_confidence": prior.confidence}
