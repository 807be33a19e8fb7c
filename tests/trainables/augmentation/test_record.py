"""What every operation on the fields of a row must do, and what each does."""

import dataclasses
from typing import get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.trial_config import RECORD_SETTINGS, TrialConfig
from trainables.augmentation import RECORD_OPERATIONS
from trainables.augmentation.noise import RecordNoise
from trainables.augmentation.record import EncodedFields
from trainables.data.comparison import Comparison
from trainables.data.fields import (
    DAY_S,
    MISSING,
    CategoricalField,
    Fields,
    NumericField,
    TimeField,
    TimePart,
)

HOUR_S = 3_600.0
TIME = TimeField(name="time", parts=("age", "hour", "weekday"), first=0.0, last=100 * DAY_S)
COLUMNS = Fields(
    categorical=(
        CategoricalField(name="ad_format", values=("banner", "video", "text")),
        CategoricalField(name="brand", values=("acme",)),
    ),
    numeric=(NumericField(name="price", center=10.0, scale=2.0),),
    time=TIME,
)
PRICES = 2


def rows(seconds: np.ndarray, columns: Fields = COLUMNS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    assert columns.time is not None
    prices = rng.normal(size=(len(seconds), PRICES))
    numbers = np.concatenate([prices, columns.time.encode(seconds)], axis=1)
    codes = np.stack([rng.integers(2, 5, len(seconds)), rng.integers(0, 3, len(seconds))], axis=1)
    return {"codes": codes, "numbers": numbers.astype(np.float32)}


def noise(
    columns: Fields = COLUMNS, *, epoch: int = 1, rank: int = 0, **rates: float
) -> RecordNoise:
    trial = TrialConfig(**rates)  # type: ignore[arg-type]
    found = RecordNoise.of(trial, columns, epoch=epoch, rank=rank)
    assert found is not None
    return found


SECONDS = np.random.default_rng(1).uniform(0, 100 * DAY_S, 4_000)


def same(left: EncodedFields, right: EncodedFields) -> bool:
    return all(np.array_equal(left[name], right[name]) for name in left)


def test_a_trial_has_a_setting_for_every_operation_and_no_other() -> None:
    assert set(RECORD_OPERATIONS) == set(RECORD_SETTINGS)
    assert set(RECORD_SETTINGS) <= set(get_type_hints(TrialConfig))


def test_no_setting_is_no_noise() -> None:
    assert RecordNoise.of(TrialConfig(), COLUMNS, epoch=1, rank=0) is None


@pytest.mark.parametrize("name", RECORD_SETTINGS)
def test_fields_keep_their_shapes_and_the_originals_stay(name: str) -> None:
    fields = rows(SECONDS)
    before = {key: value.copy() for key, value in fields.items()}

    varied = noise(**{name: 0.5})(fields)

    assert same(fields, before)
    assert not same(varied, before)
    for key, value in before.items():
        assert varied[key].shape == value.shape
        assert varied[key].dtype == value.dtype
    assert np.isin(varied["codes"], np.append(before["codes"], MISSING)).all()


@pytest.mark.parametrize("name", RECORD_SETTINGS)
def test_seed_epoch_and_worker_decide(name: str) -> None:
    fields = rows(SECONDS)
    first = noise(**{name: 0.5})(fields)

    assert same(noise(**{name: 0.5})(fields), first)
    for other in ({"seed": 1}, {"epoch": 2}, {"rank": 1}):
        assert not same(noise(**{name: 0.5}, **other)(fields), first)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", RECORD_SETTINGS)
def test_a_table_without_such_fields_is_left_alone(name: str) -> None:
    prices = {"numbers": np.ones((3, PRICES), np.float32)}
    columns = Fields(numeric=COLUMNS.numeric)

    found = RecordNoise.of(TrialConfig(**{name: 0.5}), columns, epoch=1, rank=0)  # type: ignore[arg-type]

    assert found is None or same(found(prices), prices)


def test_dropout_hides_its_share_of_categories() -> None:
    varied = noise(category_dropout=0.3)(rows(SECONDS))["codes"]

    hidden = (varied == MISSING) & (rows(SECONDS)["codes"] != MISSING)
    assert hidden[:, 0].mean() == pytest.approx(0.3, abs=0.03)


def test_swapped_categories_are_those_of_other_rows_as_often_as_they_occur() -> None:
    before = rows(SECONDS)["codes"]

    varied = noise(category_swap=0.4)(rows(SECONDS))["codes"]

    # A third of the swaps meet a row with the same of three formats.
    assert (varied[:, 0] != before[:, 0]).mean() == pytest.approx(0.4 * 2 / 3, abs=0.03)
    for code in (2, 3, 4):
        share = (before[:, 0] == code).mean()
        assert (varied[:, 0] == code).mean() == pytest.approx(share, abs=0.03)


@given(start=st.floats(0, 99 * DAY_S), hours=st.floats(0.1, 30), seed=st.integers(0, 9))
def test_a_moved_row_looks_like_one_of_that_time(start: float, hours: float, seed: int) -> None:
    seconds = np.full(50, start)

    varied = noise(timestamp_jitter=hours, seed=seed)(rows(seconds))["numbers"]

    rng = np.random.default_rng([seed, 1, 3, 0])
    moves = rng.normal(scale=hours / 24, size=50) * DAY_S
    expected = TIME.encode(seconds + moves)
    # Within a second of midnight rounding may decide about the weekday.
    clear = np.abs((seconds + moves + DAY_S / 2) % DAY_S - DAY_S / 2) > 60
    assert varied[clear, PRICES:] == pytest.approx(expected[clear], abs=1e-3)
    assert np.array_equal(varied[:, :PRICES], rows(seconds)["numbers"][:, :PRICES])


def test_a_missing_time_stays_missing() -> None:
    varied = noise(timestamp_jitter=5.0)(rows(np.array([np.nan, DAY_S])))["numbers"]

    assert (varied[0, PRICES:] == 0).all()
    assert (varied[1, PRICES:] != 0).any()


@pytest.mark.parametrize("part", ["hour", "weekday", "age"])
def test_each_part_is_moved_by_itself(part: TimePart) -> None:
    columns = Fields(time=TimeField(name="time", parts=(part,), first=0.0, last=100 * DAY_S))
    assert columns.time is not None
    fields = {"numbers": columns.time.encode(SECONDS).astype(np.float32)}

    varied = noise(columns, timestamp_jitter=24.0)(fields)["numbers"]

    assert not np.array_equal(varied, fields["numbers"])
    if part != "age":
        assert np.linalg.norm(varied, axis=1) == pytest.approx(1.0, abs=1e-5)


def test_a_placement_is_never_swapped() -> None:
    found = RecordNoise.of(
        TrialConfig(category_swap=0.9), COLUMNS, epoch=1, rank=0, placement=("ad_format",)
    )
    assert found is not None

    varied = found(rows(SECONDS))["codes"]

    assert np.array_equal(varied[:, 0], rows(SECONDS)["codes"][:, 0])
    assert not np.array_equal(varied[:, 1], rows(SECONDS)["codes"][:, 1])


COMPARED = dataclasses.replace(
    COLUMNS, comparisons=(Comparison(first="title", second="brand", kind="text"),)
)


def compared_rows() -> dict[str, np.ndarray]:
    fields = rows(SECONDS)
    alike = np.tile([0.0, 0.5, 0.25, 0.0], (len(SECONDS), 1)).astype(np.float32)
    return {**fields, "numbers": np.concatenate([fields["numbers"], alike], axis=1)}


def test_a_hidden_category_is_not_compared() -> None:
    fields = compared_rows()

    varied = noise(COMPARED, category_dropout=0.5)(fields)

    hidden = (varied["codes"][:, 1] == MISSING) & (fields["codes"][:, 1] != MISSING)
    assert 0.2 < hidden.mean() < 0.5
    assert (varied["numbers"][hidden, -4:] == [0, 0, 0, 1]).all()
    shown = varied["codes"][:, 1] != MISSING
    assert (varied["numbers"][shown, -4:] == [0, 0.5, 0.25, 0]).all()
    assert np.array_equal(varied["numbers"][:, :-4], fields["numbers"][:, :-4])


def test_a_compared_category_is_not_swapped() -> None:
    fields = compared_rows()

    varied = noise(COMPARED, category_swap=0.5)(fields)

    assert np.array_equal(varied["codes"][:, 1], fields["codes"][:, 1])
    assert not np.array_equal(varied["codes"][:, 0], fields["codes"][:, 0])
    assert np.array_equal(varied["numbers"], fields["numbers"])
