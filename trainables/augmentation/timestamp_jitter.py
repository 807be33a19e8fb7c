"""Move rows in time by some hours: what was clicked at nine would have been at ten."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.augmentation.record import EncodedFields
from trainables.data.fields import DAY_S, WEEK_DAYS, Fields, TimeField

HOUR_S = 3_600.0


@dataclass(frozen=True, slots=True)
class TimestampJitter:
    """Moves times; a :class:`trainables.augmentation.record.RecordOperation`.

    Works on what times have become: points on the circles of hours and weekdays, and the age. The
    hour of a row whose hour isn't among them is drawn. A missing time stays missing.
    """

    hours: float
    """Standard deviation of the move, in hours."""
    time: TimeField
    """The column."""
    first: int
    """Place of its first number among those of a row."""

    def __call__(self, fields: EncodedFields, rng: np.random.Generator) -> EncodedFields:
        """Move each row by a normally distributed number of hours."""
        numbers = np.array(fields["numbers"])
        moved = rng.normal(scale=self.hours * HOUR_S / DAY_S, size=len(numbers))
        places: dict[str, int] = {}
        place = self.first
        for part in self.time.parts:
            places[part] = place
            place += 1 if part == "age" else 2
        # Of the day, in [0, 1): a move passes midnight, or it doesn't.
        time_of_day = rng.random(len(numbers))
        if "hour" in places:
            time_of_day = _turns(numbers, places["hour"]) % 1
            _turn(numbers, places["hour"], moved)
        if "weekday" in places:
            _turn(numbers, places["weekday"], np.floor(time_of_day + moved) / WEEK_DAYS)
        if "age" in places:
            span = max(self.time.last - self.time.first, 1.0)
            # All numbers of a missing time are 0.
            known = (numbers[:, list(places.values())] != 0).any(axis=1)
            numbers[known, places["age"]] += moved[known] * DAY_S / span
        return {**fields, "numbers": numbers}


def _turns(numbers: np.ndarray, place: int) -> np.ndarray:
    turns: np.ndarray = np.arctan2(numbers[:, place], numbers[:, place + 1]) / (2 * np.pi)
    return turns


def _turn(numbers: np.ndarray, place: int, turns: np.ndarray) -> None:
    """Turn the points (sine, cosine) at a place; a missing one, (0, 0), stays where it is."""
    sine, cosine = numbers[:, place].copy(), numbers[:, place + 1].copy()
    by_sine, by_cosine = np.sin(2 * np.pi * turns), np.cos(2 * np.pi * turns)
    numbers[:, place] = sine * by_cosine + cosine * by_sine
    numbers[:, place + 1] = cosine * by_cosine - sine * by_sine


def build_timestamp_jitter(
    columns: Fields, hours: float, placement: Sequence[str]
) -> TimestampJitter | None:
    """Build it; None where the model sees no time."""
    if columns.time is None:
        return None
    return TimestampJitter(hours, columns.time, 2 * len(columns.numeric))
