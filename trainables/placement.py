"""Predict every placement that a row could have, choose the best, and say what that would earn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.data.fields import NUM_SPECIAL, Fields
from trainables.data.prepared import PreparedData, Rows
from trainables.data.row_inputs import RowInputs
from trainables.off_policy import PolicyValue, doubly_robust, ips, snips
from trainables.placement_policy import equal_capacity, greedy_placements

Predict = Callable[[RowInputs], np.ndarray]
"""(n,) click probabilities of n rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placements:
    """The placements that a policy chooses from."""

    columns: tuple[str, ...]
    """The columns that make a placement."""
    places: tuple[int, ...]
    """Their places among the categorical columns."""
    codes: np.ndarray
    """int32 (k, columns): each placement's codes."""
    values: tuple[tuple[str, ...], ...]
    """The same as the table has them."""

    @classmethod
    def of(cls, data: PreparedData, columns: Sequence[str]) -> "Placements":
        """Find every placement that training rows were shown in.

        Raises:
            ValueError: if there are fewer than two.
        """
        fields: Fields = data.fields
        names = [field.name for field in fields.categorical]
        places = tuple(names.index(name) for name in columns)
        shown = np.unique(data.rows("train").inputs.codes[:, places], axis=0)
        shown = shown[(shown >= NUM_SPECIAL).all(axis=1)]
        if len(shown) < 2:
            raise ValueError(
                f"training rows were shown in {len(shown)} placement by "
                f"{', '.join(columns)}; a policy needs at least two to choose from"
            )
        values = tuple(
            tuple(
                fields.categorical[place].values[code - NUM_SPECIAL]
                for place, code in zip(places, row, strict=True)
            )
            for row in shown.tolist()
        )
        return cls(columns=tuple(columns), places=places, codes=shown, values=values)

    def find(self, codes: np.ndarray) -> np.ndarray:
        """Return the placement that each row was shown in, int64 (n,); -1: none of them."""
        shown = np.asarray(codes)[:, self.places]
        matches = (shown[:, None, :] == self.codes[None]).all(axis=2)
        return np.where(matches.any(axis=1), matches.argmax(axis=1), -1)

    def scores(self, inputs: RowInputs, predict: Predict) -> np.ndarray:
        """Predict each row in each placement, float64 (n, k)."""
        scores = np.empty((len(inputs), len(self.codes)))
        for number, placement in enumerate(self.codes):
            scores[:, number] = predict(inputs.with_codes(self.places, placement))
        return scores


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacementReport:
    """What the best placements by a model would earn, and what the log earned."""

    logged: float
    """Clicks per row of the log."""
    estimates: Mapping[str, PolicyValue]
    """The policy's clicks per row, by estimator."""
    shares: Mapping[str, float]
    """How often the policy chooses each placement, those that it chooses."""
    num_left_out: int
    """Rows that were shown where no training row was; they are left out."""


def evaluate_placements(
    placements: Placements, rows: Rows, predict: Predict, *, max_share: float | None
) -> PlacementReport:
    """Estimate what a policy that always takes the best placement would earn.

    Args:
        placements: What it chooses from.
        rows: Logged rows with propensities, which neither model nor policy was fitted on.
        predict: The model.
        max_share: Largest share of the rows that one placement may get; None: no limit.

    Raises:
        ValueError: if the rows have no propensities, or none was shown in a known placement.
    """
    if rows.propensities is None:
        raise ValueError(
            "what a policy would earn can't be estimated without logging propensities; name their "
            "column, data.columns.propensity"
        )
    logged = placements.find(rows.inputs.codes)
    known = np.flatnonzero(logged >= 0)
    if not len(known):
        raise ValueError("no row was shown in a placement that training rows were shown in")
    logged = logged[known]
    scores = placements.scores(rows.inputs.take(known), predict)
    num_placements = len(placements.codes)
    capacity = equal_capacity(max_share, len(known), num_placements)
    chosen = greedy_placements(scores, capacity=capacity)
    every = np.arange(len(known))
    clicks = (rows.clicks[known] / rows.impressions[known]).astype(np.float64)
    propensities = rows.propensities[known].astype(np.float64)
    matches = (chosen == logged).astype(np.float64)
    clusters = rows.groups[known]
    counts = np.bincount(chosen, minlength=num_placements) / len(known)
    return PlacementReport(
        logged=float(clicks.mean()),
        estimates={
            "ips": ips(clicks, propensities, matches, clusters=clusters),
            "snips": snips(clicks, propensities, matches, clusters=clusters),
            "doubly_robust": doubly_robust(
                clicks,
                propensities,
                matches,
                scores[every, logged],
                scores[every, chosen],
                clusters=clusters,
            ),
        },
        shares={
            ", ".join(placements.values[number]): float(counts[number])
            for number in np.argsort(-counts, kind="stable")
            if counts[number] > 0
        },
        num_left_out=len(rows) - len(known),
    )
