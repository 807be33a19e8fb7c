"""Predicted probabilities beside what happened: what every metric measures."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Weighing = Callable[[np.ndarray], np.ndarray]
"""(..., n) weights of the rows to (...) values, NaN: undefined; a group's rows weigh the same."""
Kernel = Callable[["ScoredRows"], Weighing]
"""A metric's computation: what no weight changes, such as sorting, is done once and before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredRows:
    """Checked rows; one with several impressions counts as that many positives and negatives."""

    probabilities: np.ndarray
    """float64 (n,): predicted click probabilities."""
    clicks: np.ndarray
    """float64 (n,): clicks."""
    impressions: np.ndarray
    """float64 (n,): impressions, at least the clicks."""
    groups: np.ndarray
    """(n,) codes: rows of equal code were shown for one query or to one user."""

    @classmethod
    def of(
        cls,
        probabilities: np.ndarray,
        clicks: np.ndarray,
        impressions: np.ndarray,
        groups: np.ndarray,
    ) -> "ScoredRows":
        """Check rows.

        Raises:
            ValueError: if there are none, the arrays don't match, or a probability isn't in [0, 1].
        """
        # In float32 the sums over millions of impressions would lose clicks.
        arrays = [np.asarray(array, np.float64) for array in (probabilities, clicks, impressions)]
        groups = np.asarray(groups)
        shapes = [array.shape for array in (*arrays, groups)]
        if len(set(shapes)) > 1 or groups.ndim != 1:
            raise ValueError(
                "probabilities, clicks, impressions and groups must be four arrays of one length, "
                f"got shapes {', '.join(map(str, shapes))}"
            )
        if not len(groups):
            raise ValueError("there are no rows to measure; give at least one")
        wrong = ~((arrays[0] >= 0) & (arrays[0] <= 1))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"probability of row {row} is {arrays[0][row]}, expected a number in [0, 1]; "
                "a diverged model predicts NaN"
            )
        if not ((arrays[1] >= 0) & (arrays[1] <= arrays[2])).all():
            raise ValueError("clicks must be in [0, impressions] in every row")
        return cls(probabilities=arrays[0], clicks=arrays[1], impressions=arrays[2], groups=groups)

    @property
    def non_clicks(self) -> np.ndarray:
        """float64 (n,): impressions without a click."""
        difference: np.ndarray = self.impressions - self.clicks
        return difference
