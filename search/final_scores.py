"""What the test split said: bundle, winner, baselines, a simulated log's ceiling."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BUNDLE, WINNER, BASELINE, CEILING = "bundle", "winner", "baseline", "ceiling"
POPULARITY = "popularity"
LABELS = {
    BUNDLE: "bundle",
    WINNER: "winner, uncompressed",
    BASELINE: "TF-IDF + logistic regression",
    POPULARITY: "popularity",
    CEILING: "ceiling (true probabilities)",
}
"""What is scored, and how a table names it, in the order in which it is shown."""


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
    model_sha256: str
    """Hash of the bundle's graph: the scores are of this file and no other."""
    scores: Mapping[str, Mapping[str, Score]]
    """By metric, then by model: one of :data:`LABELS`."""
    lift: Mapping[str, Score]
    """By metric: bundle minus baseline, with the interval of the paired difference."""
    note: str = ""
    """Why a line is missing."""

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON values."""
        return dataclasses.asdict(self)

    def summary(self) -> dict[str, Any]:
        """Return what a bundle's manifest and model card say: a number or an interval by name."""
        found: dict[str, Any] = {}
        for metric, by_model in self.scores.items():
            for model, score in by_model.items():
                name = metric if model == BUNDLE else f"{metric} of {LABELS[model]}"
                found[name] = round(score.value, 6)
                if score.low is not None and score.high is not None:
                    found[f"{name}, 95 % interval"] = [round(score.low, 4), round(score.high, 4)]
        return found

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "FinalScores":
        """Read what :meth:`to_dict` wrote."""
        scores = {
            metric: {model: Score(**score) for model, score in by_model.items()}
            for metric, by_model in raw["scores"].items()
        }
        lift = {metric: Score(**score) for metric, score in raw["lift"].items()}
        return cls(**{**raw, "scores": scores, "lift": lift})
