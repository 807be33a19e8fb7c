"""What the test split said: bundle, winner, baselines, a simulated log's ceiling."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BUNDLE, WINNER, BASELINE, CEILING = "bundle", "winner", "baseline", "ceiling"
POPULARITY = "popularity"
DEFAULT = "default"
LABELS = {
    BUNDLE: "bundle",
    WINNER: "winner, uncompressed",
    DEFAULT: "default configuration, uncompressed",
    BASELINE: "TF-IDF + logistic regression",
    POPULARITY: "popularity",
    CEILING: "ceiling (true probabilities)",
}
"""What is scored, and how a table names it, in the order in which it is shown."""

BASELINES = (DEFAULT, BASELINE, POPULARITY)
"""What a bundle has to beat."""


ESTIMATORS = {"ips": "IPS", "snips": "SNIPS", "doubly_robust": "doubly robust"}
"""How a sentence names the estimators of a policy's value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A value on the test split."""

    value: float
    """The metric."""
    low: float | None
    """Lower end of its 95 % bootstrap interval; None where there is a single group."""
    high: float | None
    """Upper end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalScores:
    """What the test split said about one bundle."""

    trial: int
    """The trial that the bundle was made of."""
    predictor_sha256: str
    """Hash of what the bundle predicts with: the scores are of these files and no others."""
    scores: Mapping[str, Mapping[str, Score]]
    """By metric, then by model: one of :data:`LABELS`."""
    lift: Mapping[str, Mapping[str, Score]]
    """By metric, then by baseline: bundle minus baseline, with the paired difference's interval."""
    placement: Mapping[str, Any] | None = None
    """placement: what the bundle's best placements would earn (PlacementReport), as JSON values."""
    note: str = ""
    """Why a line is missing."""

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON values."""
        return dataclasses.asdict(self)

    def policy_sentences(self) -> list[str]:
        """Say what the bundle's placements would earn, for a placement study."""
        if self.placement is None:
            return []
        estimates = list(self.placement["estimates"].values())
        values = ", ".join(
            f"{estimate['value']:.4f} ({estimate['low']:.4f} to {estimate['high']:.4f}) by "
            f"{ESTIMATORS[estimate['estimator']]}"
            for estimate in estimates
        )
        sentences = [
            f"The log earned {self.placement['logged']:.4f} clicks an impression; the bundle's "
            f"best placements would earn {values}, from "
            f"{estimates[0]['effective_sample_size']:.0f} effective impressions."
        ]
        for warning in dict.fromkeys(estimate["warning"] for estimate in estimates):
            if warning:
                sentences.append(f"Caution: {warning}.")
        return sentences

    def summary(self) -> dict[str, Any]:
        """Return what a bundle's manifest and model card say: a number or an interval by name."""
        found: dict[str, Any] = {}
        for metric, by_model in self.scores.items():
            for model, score in by_model.items():
                name = metric if model == BUNDLE else f"{metric} of {LABELS[model]}"
                found[name] = round(score.value, 6)
                if score.low is not None and score.high is not None:
                    found[f"{name}, 95 % interval"] = [round(score.low, 4), round(score.high, 4)]
        if self.placement is not None:
            found["clicks an impression, logged"] = round(self.placement["logged"], 6)
            for name, estimate in self.placement["estimates"].items():
                if not math.isfinite(estimate["value"]):
                    continue
                found[f"clicks an impression, best placements by {name}"] = round(
                    estimate["value"], 6
                )
        return found

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "FinalScores":
        """Read what :meth:`to_dict` wrote."""
        return cls(**{**raw, "scores": _by_model(raw["scores"]), "lift": _by_model(raw["lift"])})


def _by_model(raw: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Score]]:
    return {
        metric: {model: Score(**score) for model, score in by_model.items()}
        for metric, by_model in raw.items()
    }
