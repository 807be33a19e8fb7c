"""Choose the best placement of rows with a bundle that was trained to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.bundle.predictor import ROWS_AT_ONCE, Predictor
from trainables.placement_policy import equal_capacity, greedy_placements


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenPlacements:
    """What was chosen for n rows."""

    columns: tuple[str, ...]
    """The columns that make a placement."""
    values: tuple[tuple[str, ...], ...]
    """k placements: values of those columns."""
    chosen: np.ndarray
    """int64 (n,): number of each row's placement."""
    probabilities: np.ndarray
    """float64 (n, k): click probability of each row in each placement."""

    def to_columns(self) -> dict[str, list[Any]]:
        """Return the chosen values, ``best_`` before each column's name, and the probability."""
        found: dict[str, list[Any]] = {
            f"best_{name}": [self.values[number][place] for number in self.chosen]
            for place, name in enumerate(self.columns)
        }
        rows = np.arange(len(self.chosen))
        found["click_probability"] = self.probabilities[rows, self.chosen].tolist()
        return found


def choose_placements(
    predictor: Predictor,
    rows: Mapping[str, list[Any]],
    *,
    max_share: float | None = None,
    allowed: np.ndarray | None = None,
) -> ChosenPlacements:
    """Predict rows in every placement and take the best within limits.

    Args:
        predictor: A bundle of a placement study.
        rows: n values by column; those of the placement are overwritten and may be left out.
        max_share: Largest share of the rows that one placement may get; None: no limit.
        allowed: (n, k) bool, whether a row may have a placement, in the order of
            ``predictor.features.placements``; None: all may.

    Raises:
        ValueError: if the bundle chooses no placements, a column is missing, or no choice keeps
            the limits.
    """
    features = predictor.features
    if not features.placements:
        raise ValueError(
            "this bundle chooses no placements; export one from a study of task.kind: placement"
        )
    columns = [list(column) for column in rows.values()]
    num_rows = len(columns[0]) if columns else 0
    probabilities = np.empty((num_rows, len(features.placements)))
    # As many rows at a time as the predictor takes, so that both give the same.
    for start in range(0, num_rows, ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        probabilities[part] = _scores(predictor, rows, part)
    capacity = equal_capacity(max_share, num_rows, len(features.placements))
    return ChosenPlacements(
        columns=features.placement,
        values=features.placements,
        chosen=_choose(probabilities, allowed, capacity),
        probabilities=probabilities,
    )


def _scores(predictor: Predictor, rows: Mapping[str, list[Any]], part: slice) -> np.ndarray:
    """Predict some rows in every placement, (rows, k); what doesn't change is encoded once."""
    features = predictor.features
    columns = {name: rows[name][part] for name in features.columns if name in rows}
    num_rows = len(next(iter(rows.values()))[part])
    columns |= {name: [None] * num_rows for name in features.placement}
    if missing := [name for name in features.columns if name not in columns]:
        raise ValueError(f"there is no column {missing[0]!r}; it has {', '.join(rows)}")
    inputs = predictor.encode(columns, first_row=part.start)
    fields = {field.name: field for field in features.fields.categorical}
    names = list(fields)
    places = [names.index(name) for name in features.placement]
    scores = np.empty((num_rows, len(features.placements)))
    for number, values in enumerate(features.placements):
        pairs = zip(features.placement, values, strict=True)
        codes = np.concatenate([fields[name].encode([value]) for name, value in pairs])
        scores[:, number] = predictor.predict_inputs(inputs.with_codes(places, codes))
    return scores


def _choose(
    probabilities: np.ndarray, allowed: np.ndarray | None, capacity: np.ndarray | None
) -> np.ndarray:
    if not len(probabilities):
        return np.zeros(0, dtype=np.int64)
    return greedy_placements(probabilities, allowed, capacity)
