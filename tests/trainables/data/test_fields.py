"""Fields become codes and numbers, alike in training and in serving."""

import dataclasses
import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.comparison import Comparison
from trainables.data.config import Columns, DataConfig
from trainables.data.fields import (
    MISSING,
    UNSEEN,
    CategoricalField,
    Fields,
    NumericField,
    TimeField,
    as_category,
    as_number,
    as_seconds,
)
from trainables.data.raw_fields import RawFields, category_column
from trainables.data.table import load_clicks
from trainables.task import TaskConfig

BRANDS = CategoricalField(name="brand", values=("acme", "zenith"))
PRICE = NumericField(name="price", center=10.0, scale=2.0)
TIME = TimeField(name="time", parts=("hour", "weekday", "age"), first=0.0, last=864_000.0)
TITLE_BRAND = Comparison(first="title", second="brand", kind="text")
ALL = Fields(
    categorical=(BRANDS,),
    numeric=(PRICE,),
    time=TIME,
    comparisons=(TITLE_BRAND,),
)


def test_frequent_values_have_codes_and_others_share_one() -> None:
    distinct = ["acme", "zenith", "once"]
    field = CategoricalField.fit("brand", distinct, np.array([1, 1, 1, 0, 0, 2, -1]))

    codes = field.encode(["zenith", "acme", "once", "new", None, " "])

    assert field.values == ("zenith", "acme")
    assert codes.tolist() == [2, 3, UNSEEN, UNSEEN, MISSING, MISSING]


def test_numbers_are_scaled_by_median_and_quartiles_and_missing_ones_flagged() -> None:
    field = NumericField.fit("price", np.array([1.0, 2.0, 3.0, 4.0, 5.0, np.nan]))

    encoded = field.encode(np.array([3.0, np.nan, 1e12]))

    assert field.center == 3.0
    assert field.scale == pytest.approx(2 / 1.349)
    assert encoded[:2].tolist() == [[0.0, 0.0], [0.0, 1.0]]
    # A wrong price weighs little more than a high one.
    assert 20 < encoded[2, 0] < 30


@pytest.mark.parametrize("numbers", [[], [np.nan], [7.0, 7.0, 7.0], [1.0, 1.0, 1.0, 1.0, 9.0]])
def test_a_column_without_spread_has_a_finite_scale(numbers: list[float]) -> None:
    field = NumericField.fit("price", np.array(numbers))

    assert field.scale > 0
    assert np.isfinite(field.encode(np.array([0.0, 1e300, np.nan]))).all()


def test_neighbouring_hours_and_weekdays_are_near_each_other() -> None:
    sunday_evening = datetime(2026, 3, 1, 23, 30, tzinfo=UTC).timestamp()
    monday_night = datetime(2026, 3, 2, 0, 30, tzinfo=UTC).timestamp()
    thursday_noon = datetime(2026, 3, 5, 12, tzinfo=UTC).timestamp()

    encoded = TIME.encode(np.array([sunday_evening, monday_night, thursday_noon, np.nan]))

    hours, weekdays = encoded[:, :2], encoded[:, 2:4]
    assert np.linalg.norm(hours[0] - hours[1]) < 0.3 < np.linalg.norm(hours[0] - hours[2])
    assert np.linalg.norm(weekdays[0] - weekdays[1]) < np.linalg.norm(weekdays[0] - weekdays[2])
    assert encoded[3].tolist() == [0.0] * 5


def test_monday_is_the_first_day_of_a_week() -> None:
    monday = datetime(2026, 3, 2, tzinfo=UTC).timestamp()

    assert TIME.encode(np.array([monday]))[0, 2:4] == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, 3.0, "3", np.int64(3), " 3 "], "3"),
        ([True, np.True_, "True"], "True"),
        ([0.5, np.float32(0.5)], "0.5"),
        ([None, math.nan, pd.NA, pd.NaT], None),
    ],
)
def test_a_category_is_the_same_wherever_it_comes_from(
    values: list[object], expected: str | None
) -> None:
    assert {as_category(value) for value in values} == {expected}


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 3, 1, 9, 30),
        datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
        pd.Timestamp("2026-03-01 09:30"),
        pd.Timestamp("2026-03-01 10:30+01:00"),
        np.datetime64("2026-03-01T09:30"),
        Decimal(1_772_357_400),
        "2026-03-01T09:30:00",
        "2026-03-01 09:30:00 UTC",
        1_772_357_400,
        "1772357400",
    ],
)
def test_a_time_is_the_same_however_it_is_written(value: object) -> None:
    assert as_seconds(value) == 1_772_357_400


def test_a_day_without_an_hour_is_its_beginning() -> None:
    assert as_seconds(date(2026, 3, 1)) == as_seconds("2026-03-01")


def test_a_long_id_is_read_exactly_where_others_are_missing(tmp_path: Path) -> None:
    ids = [None if row % 5 == 0 else 2**60 + row % 2 for row in range(60)]
    frame = pd.DataFrame({"title": "t", "label": [row % 2 for row in range(60)]})
    frame["item"] = pd.array(ids, dtype="Int64")
    frame.to_parquet(tmp_path / "log.parquet")
    columns = Columns(text=("title",), label="label", categorical=("item",))

    found = load_clicks(
        DataConfig(path=str(tmp_path / "log.parquet"), columns=columns), TaskConfig()
    )

    assert set(found.fields.categories[0].distinct.to_pylist()) == {str(2**60), str(2**60 + 1)}


@pytest.mark.parametrize(
    "value", [None, "", " ", math.nan, pd.NA, pd.NaT, np.datetime64("NaT", "s")]
)
def test_a_missing_time_or_number_is_nan(value: object) -> None:
    assert math.isnan(as_seconds(value))
    if not isinstance(value, np.datetime64):
        assert math.isnan(as_number(value))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("price", "cheap", r"row 5, column 'price': expected a finite number, got 'cheap'"),
        ("price", math.inf, r"row 5, column 'price': expected a finite number, got inf"),
        ("price", [1], r"row 5, column 'price': expected a number, got \[1\] \(list\)"),
        ("brand", {"a": 1}, r"row 5, column 'brand': expected text, a number or a boolean"),
        ("time", "noon", r"row 5, column 'time': expected a time such as 2026-03-01T09:30:00"),
    ],
)
def test_a_wrong_value_is_named(column: str, value: object, message: str) -> None:
    row: dict[str, Any] = {"brand": "acme", "price": 1.0, "time": 0, column: value}

    with pytest.raises(ValueError, match=message):
        ALL.encode({name: [item] for name, item in row.items()}, {"title": ["a"]}, first_row=5)


def test_fields_survive_json() -> None:
    assert Fields.from_dict(json.loads(json.dumps(ALL.to_dict()))) == ALL
    assert Fields.from_dict(json.loads(json.dumps(Fields().to_dict()))) == Fields()


@pytest.mark.parametrize(
    "change",
    [
        {"categorical": None},
        {"categorical": [{"name": "brand", "values": [1]}]},
        {"numeric": [{"name": "price", "center": 0.0, "scale": 0.0}]},
        {"numeric": [{"name": "price", "center": "x", "scale": 1.0}]},
        {"time": {"name": "time", "parts": ["minute"], "first": 0.0, "last": 1.0}},
        {"time": 3},
        {"comparisons": [{"first": "title", "second": "brand", "kind": "sound"}]},
        {"comparisons": [{"first": "title", "second": "price", "kind": "text"}]},
        {"comparisons": [{"first": "title", "second": "brand", "kind": "number"}]},
        {"comparisons": [{"first": "title"}]},
        {"comparisons": [{"first": "title", "second": "title", "kind": "text"}]},
        {"comparisons": [dataclasses.asdict(TITLE_BRAND)] * 2},
    ],
)
def test_damaged_fields_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="fields can't be read"):
        Fields.from_dict({**ALL.to_dict(), **change})


values = st.one_of(
    st.none(),
    st.integers(-(10**6), 10**6),
    st.floats(allow_infinity=False),
    st.text(max_size=4).filter(lambda text: text.strip().lower() != "nan"),
)


@given(brands=st.lists(values, min_size=4, max_size=30), seed=st.integers(0, 100))
def test_a_table_and_a_row_are_encoded_alike(brands: list[Any], seed: int) -> None:
    rng = np.random.default_rng(seed)
    prices = [None if rng.random() < 0.2 else float(rng.normal(50, 30)) for _ in brands]
    raw = RawFields(
        names=("brand", "price"),
        categories=(category_column(pd.Series(brands, dtype=object)),),
        numbers=(np.array([math.nan if p is None else p for p in prices]),),
    )
    fields = raw.fit(np.arange(len(brands)))

    codes, numbers = raw.encode(fields, (), len(brands))
    served_codes, served_numbers = fields.encode({"brand": brands, "price": prices}, {})

    assert codes.tolist() == served_codes.tolist()
    assert numbers.tolist() == served_numbers.tolist()


def table(folder: Path, name: str, **settings: Any) -> Any:  # noqa: ANN401
    number = np.arange(60)
    frame = pd.DataFrame(
        {
            "title": [f"product {row}" for row in number],
            "label": number % 2,
            "brand": [None if row % 7 == 0 else f"brand {row % 3}" for row in number],
            "price": np.where(number % 5 == 0, np.nan, number * 1.5),
            "day": pd.Timestamp("2026-03-01") + pd.to_timedelta(number, unit="h"),
            "part": np.array(["train", "valid", "test"])[number // 2 % 3],
        }
    )
    frame = frame.assign(**settings)
    path = folder / name
    frame.to_parquet(path) if name.endswith(".parquet") else frame.to_csv(path, index=False)
    return path


COLUMNS = Columns(
    text=("title",),
    label="label",
    categorical=("brand",),
    numeric=("price",),
    timestamp="day",
    time_features=("hour", "age"),
)


def test_a_compared_text_is_read_but_is_no_field_itself() -> None:
    assert ALL.compared_texts == ("title",)
    assert ALL.names == ("brand", "price", "time")
    # Two for the price, five for the time, four for the comparison.
    assert ALL.shapes.num_numbers == 11


def test_columns_are_compared_alike_in_a_table_and_in_a_row(tmp_path: Path) -> None:
    path = table(tmp_path, "log.parquet", other=np.arange(60) * 2.0)
    compare = (("title", "brand"), ("title", "part"), ("price", "other"))
    columns = dataclasses.replace(
        COLUMNS, categorical=("brand", "part"), numeric=("price", "other"), compare=compare
    )
    frame = pd.read_parquet(path)

    found = load_clicks(DataConfig(path=str(path), columns=columns), TaskConfig())

    fields = found.fields.fit(np.arange(60))
    _, numbers = found.fields.encode(fields, found.texts, 60)
    rows = {name: frame[name].tolist() for name in frame}
    _, served = fields.encode(rows, {"title": rows["title"]})
    assert numbers.tolist() == served.tolist()
    # "product 7" and no brand; "product 8" and "brand 2".
    texts = numbers[:, -11:-7]
    assert texts[7].tolist() == [0, 0, 0, 1]
    assert texts[8].tolist() == [0, 0, 0, 0]
    # No price; 12 and 16.
    assert numbers[0, -3:].tolist() == [0, 0, 1]
    assert numbers[8, -3:].tolist() == pytest.approx([0.25, 0.25, 0])


def test_csv_and_parquet_give_the_same_fields(tmp_path: Path) -> None:
    tables = [
        load_clicks(DataConfig(path=str(table(tmp_path, name)), columns=COLUMNS), TaskConfig())
        for name in ("log.csv", "log.parquet")
    ]

    assert tables[0].fingerprint == tables[1].fingerprint
    fields = tables[0].fields.fit(np.arange(60))
    assert [field.values for field in fields.categorical] == [("brand 0", "brand 1", "brand 2")]
    encoded = [each.fields.encode(fields, each.texts, 60) for each in tables]
    for one, other in zip(*encoded, strict=True):
        assert np.array_equal(one, other)


def test_rows_that_differ_in_a_field_are_not_merged(tmp_path: Path) -> None:
    path = table(tmp_path, "log.csv", title="same", clicks=1, impressions=2)
    columns = Columns(
        text=("title",), clicks="clicks", impressions="impressions", numeric=("price",)
    )

    found = load_clicks(DataConfig(path=str(path), columns=columns), TaskConfig())

    # 48 prices, and one row for all that are missing.
    assert len(found) == 49


def test_a_wrong_number_in_a_field_is_named(tmp_path: Path) -> None:
    path = table(tmp_path, "log.csv", price="3 euros")

    with pytest.raises(ValueError, match=r"column 'price', row 0 \(line 2\): '3 euros' is not a"):
        load_clicks(DataConfig(path=str(path), columns=COLUMNS), TaskConfig())


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_whole_numbers_are_the_same_categories_in_every_format(tmp_path: Path, name: str) -> None:
    # Where some are missing, pandas writes the others with a decimal: 3.0.
    path = table(tmp_path, name, brand=[3.0, np.nan, 4.5] * 20)

    found = load_clicks(DataConfig(path=str(path), columns=COLUMNS), TaskConfig())

    assert found.fields.categories[0].distinct.to_pylist() == ["3", "4.5"]


@pytest.mark.parametrize("prices", [[1e308, -1e308], [1e308, 1e308], [0.0, 5e-324]])
def test_extreme_numbers_stay_finite(prices: list[float]) -> None:
    numbers = np.array(prices * 10)
    field = NumericField.fit("price", numbers)

    encoded = field.encode(np.append(numbers, [np.nan, 1.7e308, -1.7e308])).astype(np.float32)

    assert math.isfinite(field.center)
    assert 0 < field.scale < math.inf
    assert np.isfinite(encoded).all()


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_merged_and_skipped_rows_are_compared_as_they_are_served(tmp_path: Path, name: str) -> None:
    number = np.arange(120)
    # Every row twice, but for some whose count is wrong.
    path = table(tmp_path, name)
    frame = pd.read_parquet(path) if name.endswith(".parquet") else pd.read_csv(path)
    frame = pd.concat([frame, frame], ignore_index=True)
    frame["title"] = [f"Brand {row % 60 % 4} item {row % 60}" for row in number]
    frame["price"], frame["other"] = 10.0 + number % 60, 12.0 + number % 5
    frame = frame.assign(clicks=1 - number % 2, impressions=np.where(number % 40 == 7, -1, 3))
    frame.to_parquet(path) if name.endswith(".parquet") else frame.to_csv(path, index=False)
    columns = Columns(
        text=("title",),
        clicks="clicks",
        impressions="impressions",
        categorical=("brand", "part"),
        numeric=("price", "other"),
        compare=(("title", "brand"), ("title", "part"), ("price", "other")),
    )
    config = DataConfig(path=str(path), columns=columns, on_bad_row="skip", max_bad_share=0.5)

    found = load_clicks(config, TaskConfig())

    assert len(found) < 120
    fields = found.fields.fit(np.arange(len(found)))
    _, numbers = found.fields.encode(fields, found.texts, len(found))
    rows = frame.take(found.row_ids)
    served = {column: rows[column].tolist() for column in rows}
    _, expected = fields.encode(served, {"title": served["title"]})
    assert numbers.tolist() == expected.tolist()
